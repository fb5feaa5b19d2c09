"""The trainings of both networks that ship, as the command runs them, with a step or two."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from models.training import __main__ as command  # noqa: E402
from models.training import train_slices as slices_module  # noqa: E402
from models.training.networks import SliceNetwork, TwoAnswerUNet  # noqa: E402
from models.training.slice_bank import BankRecipe  # noqa: E402
from models.training.train_lungs import LungRecipe, train_lungs  # noqa: E402
from models.training.train_slices import SliceRecipe, train_slices  # noqa: E402
from tests.recipe_factories import set_one_thread  # noqa: E402

SIZE, N_SLICES = 128, 4
#: Loss that a course prints after a step; a loss that is no number would not match.
LOSS = re.compile(r"step \d+ \d+% loss (-?\d+\.\d+)")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two patients of four slices each: noise of soft tissue around two dark ellipses."""
    folder = tmp_path / "lctsc"
    rng = np.random.default_rng(3)
    row, column = np.mgrid[:SIZE, :SIZE]
    for part in ("img", "lung"):
        (folder / part).mkdir(parents=True)
    for patient in ("000", "002"):
        for number in range(N_SLICES):
            grey = rng.normal(190.0, 4.0, (SIZE, SIZE))
            lung = np.zeros((SIZE, SIZE), dtype=bool)
            for middle in (40, 88):
                lung |= ((row - 64) / 36) ** 2 + ((column - middle) / 18) ** 2 < 1
            grey[lung] = rng.normal(30.0, 8.0, int(lung.sum()))
            name = f"Case_{patient}_{number:03d}.png"
            Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(folder / "img" / name)
            Image.fromarray(lung.astype(np.uint8) * 255).save(folder / "lung" / name)
    return folder


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw two slices a step, place lesions once, print every loss; all else as released."""
    set_one_thread()
    monkeypatch.setattr(command, "BankRecipe", lambda: BankRecipe(n_placements=1))

    def lungs(bank: Any, of: Any, recipe: LungRecipe, *rest: Any, **named: Any) -> Any:
        return train_lungs(bank, of, replace(recipe, batch_size=2), *rest, save_every_s=0, **named)

    def slices(bank: Any, of: Any, recipe: SliceRecipe, *rest: Any, **named: Any) -> Any:
        return train_slices(bank, of, replace(recipe, batch_size=2), *rest, save_every_s=0, **named)

    monkeypatch.setattr(command, "train_lungs", lungs)
    monkeypatch.setattr(slices_module, "train_slices", slices)


def run(which: str, data: Path, out: Path, *more: str, steps: int = 2) -> None:
    arguments = [which, "--data", str(data), "--out", str(out), "--phantoms", "0"]
    command.main(["--threads", "1", *arguments, "--steps", str(steps), *more])


def moved(before: "torch.nn.Module", path: Path) -> float:
    """Give the share of the parameters' tensors that a training changed; all must be numbers."""
    after = torch.load(path, weights_only=True)
    assert after.keys() == before.state_dict().keys()
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    start = dict(before.named_parameters())
    return float(np.mean([not torch.equal(after[name], start[name]) for name in start]))


def test_lung_network_learns(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four courses of two steps move every parameter."""
    run("lungs", data, tmp_path / "runs")
    losses = [float(one) for one in LOSS.findall(capsys.readouterr().out)]
    assert len(losses) == 8
    assert np.isfinite(losses).all()
    weights = tmp_path / "runs" / "005" / "lungs.pt"
    assert [path.name for path in (tmp_path / "runs").rglob("*.*")] == ["lungs.pt"]
    torch.manual_seed(LungRecipe().seed)
    assert moved(TwoAnswerUNet(LungRecipe().widths), weights) == 1.0


def test_slice_network_learns_in_every_fold(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two courses of one step; with cross-validation a network more for each patient left out."""
    run("slices", data, tmp_path / "runs", "--cross-validate", steps=1)
    losses = [float(one) for one in LOSS.findall(capsys.readouterr().out)]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    torch.manual_seed(SliceRecipe().seed)
    begun = SliceNetwork(SliceRecipe().widths)
    written = sorted((tmp_path / "runs").rglob("*.pt"))
    assert [path.parent.name for path in written] == ["000", "002", "005"]
    assert all(moved(begun, path) > 0.9 for path in written)
    one, other = (torch.load(path, weights_only=True) for path in written[:2])
    assert not torch.equal(one["maps.weight"], other["maps.weight"])


def test_same_seed_gives_the_same_weights(data: Path, tmp_path: Path) -> None:
    """A training can be repeated: twice the same command, twice the same file of weights."""
    for name in ("a", "b"):
        run("slices", data, tmp_path / name, steps=1)
    one, other = (
        torch.load(tmp_path / name / "005" / "slices.pt", weights_only=True) for name in ("a", "b")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_trained_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without slices, and no steps at all: one line and an exit code, no traceback."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as ended:
        run("lungs", tmp_path / "empty", tmp_path / "out")
    assert ended.value.code == 1
    with pytest.raises(SystemExit) as ended:
        run("lungs", tmp_path, tmp_path, steps=0)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "point at" in said
    assert "0 is too small; give 1 or more" in said
