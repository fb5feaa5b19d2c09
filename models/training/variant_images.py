"""Images that calibrate and measure a variant: of a data set, or of synthetic chests."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets import LabelledImages, Unit, read_dataset
from models.errors import TrainingFailed
from models.manifest import InputUnit, Manifest, Task
from models.phantom import Kernel, Pattern, PhantomSpec, make_phantom
from models.training.prepared import Track

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """Inputs of single images, and what they are."""

    feeds: tuple[Feed, ...]
    measured_on: str


def calibration_images(
    manifest: Manifest, layout: str, folder: Path | None, limit: int, track: Track
) -> CalibrationImages:
    """Give at most ``limit`` images, spread evenly over the data.

    Parameters
    ----------
    folder
        None takes synthetic chests.

    Raises
    ------
    TrainingFailed
        The data are of another unit than the model takes.
    """
    if folder is None:
        feeds = tuple(phantom_feeds(manifest, limit))
        return CalibrationImages(feeds, "slices of synthetic chests")
    data = read_dataset(layout, folder)
    _check_unit(data, manifest)
    chosen = np.unique(np.linspace(0, len(data) - 1, min(limit, len(data))).round().astype(int))
    feeds = tuple(
        feed_of(manifest, data.image(index))
        for index in track(chosen.tolist(), description=f"reading {data.name}")
    )
    return CalibrationImages(feeds, data.name)


def _check_unit(data: LabelledImages, manifest: Manifest) -> None:
    wanted = Unit.HU if manifest.unit is InputUnit.HU else Unit.GREY
    if data.unit is not wanted:
        raise TrainingFailed(
            f"{data.name} is in {data.unit.value}, model {manifest.name} takes {wanted.value}; "
            "choose other data"
        )


def feed_of(manifest: Manifest, image: NDArray[Any]) -> Feed:
    """Give the inputs for one image ``(rows, columns)`` of the model's unit; all of it as box."""
    if manifest.unit is InputUnit.GREY:
        return {"grey": image[None].astype(np.float32)}
    feed: dict[str, NDArray[Any]] = {"hu": image[None].astype(np.int16)}
    if manifest.task is Task.SLICE_CLASSIFICATION:
        feed["boxes"] = np.array([[0.0, 0.0, *image.shape]], dtype=np.float32)
    return feed


def phantom_feeds(manifest: Manifest, n_images: int) -> list[Feed]:
    """Give slices of synthetic chests, for calibration where no data are at hand.

    Patterns, kernels and noise change from chest to chest. Classifiers get the true box of the
    lungs.
    """
    slices = _phantom_slices()
    return [_phantom_feed(manifest, *next(slices)) for _ in range(n_images)]


def _phantom_slices() -> Iterator[tuple[NDArray[np.int16], NDArray[np.bool_]]]:
    """Give slices with lungs and their masks without end."""
    patterns, kernels = list(Pattern), list(Kernel)
    seed = 900
    while True:
        phantom = make_phantom(
            PhantomSpec(
                seed=seed,
                pattern=patterns[seed % len(patterns)],
                n_slices=12,
                slice_spacing_mm=25.0,
                rows=256,
                columns=256,
                pixel_spacing_mm=1.5,
                kernel=kernels[seed % len(kernels)],
                noise_hu=10.0 + 10.0 * (seed % 4),
                severity=0.5,
            )
        )
        for hu, labels in zip(phantom.volume_hu, phantom.lung_labels, strict=True):
            if labels.any():
                yield hu, labels > 0
        seed += 1


def _phantom_feed(manifest: Manifest, hu: NDArray[np.int16], lungs: NDArray[np.bool_]) -> Feed:
    if manifest.unit is InputUnit.GREY:
        grey = np.clip((hu.astype(np.float32) + 1200.0) / 1600.0, 0.0, 1.0) * 255.0
        return feed_of(manifest, grey)
    feed = dict(feed_of(manifest, hu))
    if "boxes" in feed:
        rows, columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
        edges = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
        feed["boxes"] = np.array([edges], dtype=np.float32)
    return feed
