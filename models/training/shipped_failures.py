"""Draw where the models that ship fail, on synthetic chests that no training has seen.

Real cases are not shown: the pictures live in the repository, the data do not. What is drawn is the
worst of what a fixed list of seeds gives, not a choice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.evaluation.masks import dice
from models.evaluation.volumes import Segmenter, lung_bearing, lung_boxes, segment_volume
from models.phantom import Pattern, Phantom, make_phantom, place_solid_lobes, typical_spec
from models.session import LungSegmenter, SliceClassifier
from models.training.picture_sheet import Picture, draw_sheet
from models.training.slice_bank import CLASS_ORDER, BankRecipe, slice_classes
from models.training.slice_data import UNSURE

#: Training draws phantoms from 10 000 on; tests and figures use others.
_SEEDS = (301, 302, 303)
_SIDE = 216
#: What a picture shows, in HU: lung and soft tissue alike.
_DARK_HU, _BRIGHT_HU = -1000.0, 400.0
#: Colours that people with colour blindness tell apart.
_TRUTH, _FOUND = (86, 180, 233), (230, 120, 0)
#: Least share of the lungs of a slice that is solid, for the slice to show a solid lobe.
_SOLID_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class _Shown:
    """A slice with two outlines, and how bad it is (most is worst)."""

    hu: NDArray[np.int16] = field(repr=False)
    truth: NDArray[np.bool_] = field(repr=False)
    found: NDArray[np.bool_] = field(repr=False)
    badness: float
    caption: str


def draw_lung_failures(path: Path, now: LungSegmenter, before: LungSegmenter | None) -> None:
    """Draw the worst plain slices, and below them slices with solid lobes.

    Parameters
    ----------
    before
        The model that shipped before, for a row of the same slices as it saw them.
    """
    plain: list[_Shown] = []
    solid_now: list[_Shown] = []
    solid_before: list[_Shown] = []
    for seed in _SEEDS:
        phantom = _phantom(seed, Pattern.NORMAL)
        words = f"plain, seed {seed}"
        plain.append(
            max(dict(_compare(phantom, phantom.volume_hu, now, words)).values(), key=_badness)
        )
        rng = np.random.default_rng(seed)
        volume, lesion = place_solid_lobes(
            phantom.volume_hu, phantom.lung_labels, phantom.spacing_mm, 0.5, rng
        )
        lungs = phantom.lung_labels > 0
        share = (lesion & lungs).sum(axis=(1, 2)) / np.maximum(lungs.sum(axis=(1, 2)), 1)
        seen = dict(_compare(phantom, volume, now, f"solid lobes, {now.manifest.version}"))
        number = max((n for n in seen if share[n] >= _SOLID_SHARE), key=lambda n: _badness(seen[n]))
        solid_now.append(seen[number])
        if before is not None:
            words = f"solid lobes, {before.manifest.version}"
            solid_before.append(dict(_compare(phantom, volume, before, words))[number])
    shown = [*plain, *solid_before, *solid_now]
    draw_sheet([_picture(one) for one in shown], path, per_row=len(_SEEDS))


def draw_slice_failures(path: Path, lungs: Segmenter, classifier: SliceClassifier) -> None:
    """Draw the surest false alarms and the surest misses, lesions outlined."""
    alarms: list[_Shown] = []
    misses: list[_Shown] = []
    for seed in _SEEDS:
        for pattern in CLASS_ORDER:
            for is_alarm, one in _wrong(_phantom(seed, pattern), pattern, lungs, classifier):
                (alarms if is_alarm else misses).append(one)
    surest = [sorted(kind, key=_badness)[:-5:-1] for kind in (alarms, misses)]
    draw_sheet([_picture(one) for kind in surest for one in kind], path)


def _badness(one: _Shown) -> float:
    return one.badness


def _phantom(seed: int, pattern: Pattern) -> Phantom:
    return make_phantom(typical_spec(seed, pattern, rows=256))


def _compare(
    phantom: Phantom, volume_hu: NDArray[np.int16], model: LungSegmenter, words: str
) -> Iterator[tuple[int, _Shown]]:
    """Give each slice with enough lung to judge, by its number."""
    found = segment_volume(model, volume_hu, phantom.spacing_mm) > 0
    truth = phantom.lung_labels > 0
    pixel_cm2 = phantom.spacing_mm[1] * phantom.spacing_mm[2] / 100.0
    for n in lung_bearing(truth, phantom.spacing_mm):
        wrong_cm2 = float((found[n] ^ truth[n]).sum()) * pixel_cm2
        caption = f"{words}\nDice {dice(found[n], truth[n]):.2f}, {wrong_cm2:.0f} cm2 wrong"
        yield int(n), _Shown(volume_hu[n], truth[n], found[n], wrong_cm2, caption)


def _wrong(
    phantom: Phantom, pattern: Pattern, lungs: Segmenter, classifier: SliceClassifier
) -> Iterator[tuple[bool, _Shown]]:
    """Give the slices whose state, affected or not, was mistaken; true for false alarms."""
    labels = segment_volume(lungs, phantom.volume_hu, phantom.spacing_mm)
    numbers = lung_bearing(labels > 0, phantom.spacing_mm)
    volume = phantom.volume_hu[numbers]
    logits = classifier.logits(volume, lung_boxes(labels[numbers] > 0))
    affected = 1.0 - classifier.probabilities(logits)[:, 0]
    truth = slice_classes(phantom.lung_labels > 0, phantom.lesion_mask, pattern, BankRecipe())
    for place, n in enumerate(numbers):
        score, label = float(affected[place]), int(truth[n])
        if label == UNSURE or (score >= 0.5) == (label > 0):  # noqa: PLR2004  even odds
            continue
        words = CLASS_ORDER[label].value.replace("community-acquired-pneumonia", "CAP")
        caption = f"{words}, slice {n}\naffected {score:.2f}"
        lesion = phantom.lesion_mask[n]
        surety = score if label == 0 else 1.0 - score
        yield label == 0, _Shown(volume[place], lesion, np.zeros_like(lesion), surety, caption)


def _picture(shown: _Shown) -> Picture:
    """Draw a slice in grey with the truth in blue and what was found in orange over it."""
    body = shown.hu > -300  # noqa: PLR2004  HU of fat and denser
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    zoom = tuple(_SIDE / size for size in shown.hu[box].shape)
    hu = ndimage.zoom(shown.hu[box].astype(np.float32), zoom, order=1)
    grey = np.clip((hu - _DARK_HU) / (_BRIGHT_HU - _DARK_HU), 0.0, 1.0) * 255.0
    image = np.repeat(grey.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    for mask, colour in ((shown.truth, _TRUTH), (shown.found, _FOUND)):
        fine = ndimage.zoom(mask[box].astype(np.uint8), zoom, order=0) > 0
        image[fine & ~ndimage.binary_erosion(fine, iterations=2)] = colour
    return Picture(image, shown.caption)
