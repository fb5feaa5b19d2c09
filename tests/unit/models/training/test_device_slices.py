"""Folds see their own patients alone; a course ends; thick slices keep their masks."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.errors import TrainingFailed  # noqa: E402
from models.training.device_slices import to_device  # noqa: E402
from models.training.side_by_side import Course, Learner, make_folds  # noqa: E402
from models.training.slice_data import LabelledSlices, Source  # noqa: E402

PATIENTS = ["000", "000", "001", "001", "phantom-1"]


def slices() -> LabelledSlices:
    n = len(PATIENTS)
    hu = np.zeros((n, 8, 8), dtype=np.int16)
    hu[:] = np.arange(n)[:, None, None] * 100
    real = [Source.REAL, Source.PLACED, Source.REAL, Source.REAL, Source.PHANTOM]
    return LabelledSlices(
        hu=hu,
        lung=np.ones((n, 8, 8), dtype=bool),
        lesion=np.zeros((n, 8, 8), dtype=bool),
        classes=np.arange(n),
        sources=np.array([int(one) for one in real]),
        patients=np.array(PATIENTS),
        has_next=np.array([False, False, True, False, False]),
    )


def test_folds_choose_none_but_their_own_patients() -> None:
    """Neither a slice of a patient left out, nor a lesion placed in one."""
    patients_of = {"a": frozenset({"000"}), "b": frozenset({"001"})}
    folds = make_folds(slices(), patients_of, torch.device("cpu"))
    drawn = torch.arange(5).repeat(4)
    generator = torch.Generator().manual_seed(0)
    for number, allowed in enumerate([{0, 1, 4}, {2, 3, 4}]):
        chosen = drawn[folds.choose(number, drawn, 12, generator)]
        assert set(chosen.tolist()) == allowed


def test_fold_never_takes_a_slice_of_others_where_its_own_are_few() -> None:
    """Three of twenty are its own: they come again and again. None of its own is an error."""
    folds = make_folds(slices(), {"a": frozenset({"000"})}, torch.device("cpu"))
    drawn = torch.tensor([2, 3] * 8 + [0, 1, 4, 2])
    generator = torch.Generator().manual_seed(0)
    chosen = drawn[folds.choose(0, drawn, 7, generator)]
    assert len(chosen) == 7
    assert sorted(set(chosen.tolist())) == [0, 1, 4]
    with pytest.raises(TrainingFailed, match="fold a: a batch of 2 slices holds none"):
        folds.choose(0, torch.tensor([2, 3]), 7, generator)


def test_thick_slices_mix_with_the_next_of_the_same_volume() -> None:
    """At most half of the neighbour above, and no neighbour of another volume."""
    on_device = to_device(slices(), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    hu, masks, chosen = on_device.draw(torch.ones(5), 200, generator, thick=1.0)
    mean = hu.mean(dim=(1, 2, 3))
    assert masks.shape == (200, 2, 8, 8)
    assert torch.allclose(mean[chosen != 2], 100.0 * chosen[chosen != 2], atol=1e-3)
    mixed = mean[chosen == 2]
    assert ((mixed >= 199.999) & (mixed <= 250.001)).all()
    assert mixed.max() > 200.0


def test_course_warms_up_falls_and_ends() -> None:
    """By steps, or by the clock where that ends first."""
    course = Course(100)
    rates = [course.rate(course.progress(step)) for step in range(100)]
    assert int(np.argmax(rates)) == 10
    assert rates[-1] < 0.01
    assert course.progress(100) == 1.0
    assert Course(10**9, seconds=1e-9).progress(0) == 1.0


def test_slow_copy_follows_from_afar(tmp_path) -> None:  # noqa: ANN001
    """It moves with the weights, by less, and is what gets saved."""
    network = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    learner = Learner(network, weight_decay=0.0, decay=0.9)
    for _ in range(5):
        learner.learn(-network(torch.ones(1, 2)).sum(), rate=0.1)
    fast, slow = network.weight[0, 0].item(), learner.slow.network.weight[0, 0].item()
    assert 0.0 < slow < fast
    learner.save(tmp_path / "fold" / "some.pt")
    saved = torch.load(tmp_path / "fold" / "some.pt", weights_only=True)
    assert saved["weight"][0, 0].item() == pytest.approx(slow)
