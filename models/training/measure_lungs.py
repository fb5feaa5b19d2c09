"""Measure the lung networks of a cross-validation on patients that each has not seen.

Eight times the same series: as they are, with synthetic ground glass in half of the lungs, with
half of the lungs consolidated in parts, with whole lobes solid, with one lung solid, and with
patches of three kinds strewn over half of the lungs. The masks stay those of the experts: diseased
lung is lung.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.datasets.lung_slices import LungSlices
from models.evaluation.bootstrap import Interval, mean_interval
from models.evaluation.masks import dice
from models.evaluation.volumes import Segmenter, segment_volume, threshold_lungs
from models.lung_answers import LungAnswers, two_answers
from models.lung_components import label_lungs
from models.phantom import (
    Pattern,
    Strewn,
    place_consolidation,
    place_lesions,
    place_solid_lobes,
    place_solid_lung,
    place_strewn,
)
from models.training.networks import InputGrid, LungGraph, TwoAnswerUNet, lay_channels_last
from models.training.slice_bank import LCTSC_SPACING_MM

#: Lesions are drawn by this seed and the number of the case; training draws by other ones.
_SEED = 77
#: Severity that fills half of the lungs with ground glass, and the share that turns solid.
_GROUND_GLASS, _SOLID = 0.96, 0.5


class State(Enum):
    """What the lungs of a measured series hold."""

    PLAIN = "as they are"
    GROUND_GLASS = "ground glass"
    CONSOLIDATION = "consolidation"
    SOLID_LOBES = "solid lobes"
    SOLID_LUNG = "one solid lung"
    STREWN_BALLS = "strewn balls"
    STREWN_BLOCKS = "strewn blocks"
    SMALL_BALLS = "small strewn balls"


#: Patches that are strewn, with the seed that draws them.
_STREWN = (
    (State.STREWN_BALLS, Strewn(8.0, 28.0), 4),
    (State.STREWN_BLOCKS, Strewn(8.0, 24.0, are_blocks=True), 9),
    (State.SMALL_BALLS, Strewn(4.0, 10.0), 4),
)


@dataclass(frozen=True, slots=True)
class LungDice:
    """Dice of one state over all patients, of the network and of the threshold method.

    ``involved`` is the smallest and the largest share of the lungs that lesions take.
    """

    state: State
    by_patient: dict[str, float]
    mean: Interval
    by_threshold: float
    involved: tuple[float, float]


class TorchSegmenter:
    """A network as :func:`models.evaluation.volumes.segment_volume` wants it."""

    def __init__(self, network: TwoAnswerUNet, grid: InputGrid, threshold: float) -> None:
        lay_channels_last(network)
        self._graph = LungGraph(network, grid).eval()
        self._cut = float(np.log(threshold / (1.0 - threshold)))

    def logits(self, images: NDArray[np.int16]) -> NDArray[np.float32]:
        """Give one logit per pixel of ``(batch, rows, columns)`` HU."""
        with torch.inference_mode():
            return np.asarray(self._graph(torch.from_numpy(images))[0].numpy(), np.float32)

    def answers(self, images: NDArray[np.int16]) -> LungAnswers:
        """Give the lungs without and with what is solid."""
        with torch.inference_mode():
            lung, with_solid, sums = self._graph(torch.from_numpy(images))
        return two_answers(self.mask(lung.numpy()), with_solid.numpy(), sums.numpy())

    def mask(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Apply the threshold."""
        return logits > self._cut


def diseased(
    patient: LungSlices,
) -> Iterator[tuple[State, NDArray[np.int16], NDArray[np.bool_]]]:
    """Give HU and lesions of a patient in every state, always the same ones."""
    labels = label_lungs(patient.mask, LCTSC_SPACING_MM)
    rng = np.random.default_rng([_SEED, int(patient.patients[0])])
    yield State.PLAIN, patient.hu, np.zeros_like(patient.mask)
    pattern = Pattern.COVID_19
    yield (
        State.GROUND_GLASS,
        *place_lesions(patient.hu, labels, LCTSC_SPACING_MM, pattern, _GROUND_GLASS, rng),
    )
    yield State.SOLID_LOBES, *place_solid_lobes(patient.hu, labels, LCTSC_SPACING_MM, _SOLID, rng)
    yield (
        State.CONSOLIDATION,
        *place_consolidation(patient.hu, labels, LCTSC_SPACING_MM, _SOLID, rng),
    )
    yield State.SOLID_LUNG, *place_solid_lung(patient.hu, labels, LCTSC_SPACING_MM, rng)
    for state, strewn, seed in _STREWN:
        one = np.random.default_rng([seed, int(patient.patients[0])])
        yield (
            state,
            *place_strewn(patient.hu, patient.mask, LCTSC_SPACING_MM, _SOLID, strewn, rng=one),
        )


def measure_lungs(
    slices: LungSlices,
    segmenter_of: Callable[[str], Segmenter],
    track: Callable[[Sequence[str]], Iterable[str]],
) -> list[LungDice]:
    """Measure each patient with the network that left the patient out.

    Parameters
    ----------
    segmenter_of
        Takes the patient.
    track
        Shows progress over the patients.
    """
    found: dict[State, list[tuple[str, float, float, float]]] = {state: [] for state in State}
    for name in track(sorted(set(slices.patients))):
        patient, segmenter = slices.of_patients(frozenset([name])), segmenter_of(name)
        for state, hu, lesion in diseased(patient):
            labels = segment_volume(segmenter, hu, LCTSC_SPACING_MM)
            by_threshold = dice(threshold_lungs(hu, LCTSC_SPACING_MM), patient.mask)
            involved = float((lesion & patient.mask).sum() / patient.mask.sum())
            found[state].append((name, dice(labels > 0, patient.mask), by_threshold, involved))
    return [
        LungDice(
            state,
            {name: value for name, value, _, _ in rows},
            mean_interval([value for _, value, _, _ in rows]),
            float(np.mean([by_threshold for _, _, by_threshold, _ in rows])),
            (min(row[3] for row in rows), max(row[3] for row in rows)),
        )
        for state, rows in found.items()
    ]


def segmenter_of_fold(
    folder: Path, widths: tuple[int, ...], grid: InputGrid, threshold: float
) -> Callable[[str], TorchSegmenter]:
    """Read ``PATIENT/lungs.pt`` of a cross-validation, one when asked for."""

    def read(patient: str) -> TorchSegmenter:
        network = TwoAnswerUNet(widths)
        state = torch.load(folder / patient / "lungs.pt", weights_only=True)
        network.load_state_dict({name: _whole(value) for name, value in state.items()})
        return TorchSegmenter(network, grid, threshold)

    return read


def _whole(value: torch.Tensor) -> torch.Tensor:
    """Give weights that were kept in half precision in full again."""
    return value.float() if value.is_floating_point() else value
