"""Losses against values worked out by hand."""

import math

import pytest

torch = pytest.importorskip("torch")

from models.training.losses import focal_tversky, tversky_index  # noqa: E402


def logits_of(probabilities: list[float]) -> "torch.Tensor":
    """Give logits ``(1, 1, 1, n)`` of the probabilities."""
    return torch.logit(torch.tensor(probabilities, dtype=torch.float64)).view(1, 1, 1, -1)


TARGET = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64).view(1, 1, 1, 4)


def test_tversky_index_equals_hand_computed() -> None:
    """Hit 1.4, missed 0.6, invented 0.5: (1.4 + 1) / (1.4 + 0.7 * 0.6 + 0.3 * 0.5 + 1)."""
    index = tversky_index(logits_of([0.8, 0.6, 0.4, 0.1]), TARGET, alpha=0.7, beta=0.3, smooth=1.0)
    assert index.item() == pytest.approx(2.4 / 2.97, abs=1e-9)


def test_tversky_index_alpha_weighs_what_is_missed() -> None:
    """The same share of error costs more when lung is left out than when it is invented."""
    missed = tversky_index(
        logits_of([0.999, 0.5, 0.001, 0.001]), TARGET, alpha=0.7, beta=0.3, smooth=1.0
    )
    invented = tversky_index(
        logits_of([0.999, 0.999, 0.5, 0.001]), TARGET, alpha=0.7, beta=0.3, smooth=1.0
    )
    assert missed.item() < invented.item()


def test_focal_tversky_equals_hand_computed() -> None:
    """(1 - 2.4 / 2.97) to the power 1 / 1.3."""
    loss = focal_tversky(logits_of([0.8, 0.6, 0.4, 0.1]), TARGET)
    assert loss.item() == pytest.approx((1 - 2.4 / 2.97) ** (1 / 1.3), abs=1e-9)


def test_focal_tversky_of_empty_slice_punishes_invention() -> None:
    """Without lungs nothing found is right, and each pixel found counts."""
    empty = torch.zeros_like(TARGET)
    nothing = focal_tversky(logits_of([1e-9] * 4), empty).item()
    something = focal_tversky(logits_of([0.9, 1e-9, 1e-9, 1e-9]), empty).item()
    assert nothing < 1e-4
    assert something == pytest.approx((1 - 1 / (0.3 * 0.9 + 1)) ** (1 / 1.3), abs=1e-6)


def test_focal_tversky_of_perfect_slice_has_finite_gradient() -> None:
    """The power 1 / gamma has no infinite slope at zero."""
    logits = torch.tensor([60.0, 60.0, -60.0, -60.0]).view(1, 1, 1, 4).requires_grad_()
    focal_tversky(logits, TARGET.float()).backward()
    assert logits.grad is not None
    assert all(math.isfinite(value) for value in logits.grad.flatten().tolist())
