"""Phantoms: exact masks, plausible HU, sides, determinism. How they look is judged by eye."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from models.phantom import (
    LEFT_LUNG,
    RIGHT_LUNG,
    Kernel,
    Pattern,
    Phantom,
    PhantomSpec,
    make_abdomen,
    make_head,
    make_phantom,
    typical_spec,
)

SMALL = PhantomSpec(
    seed=21,
    pattern=Pattern.NORMAL,
    n_slices=20,
    slice_spacing_mm=15.0,
    rows=96,
    columns=96,
    pixel_spacing_mm=4.0,
    noise_hu=10.0,
)


@cache
def phantom_of(pattern: Pattern, seed: int = 21) -> Phantom:
    return make_phantom(replace(SMALL, pattern=pattern, seed=seed))


def litres(phantom: Phantom, label: int) -> float:
    voxel_mm3 = float(np.prod(phantom.spacing_mm))
    return float((phantom.lung_labels == label).sum()) * voxel_mm3 / 1e6


@pytest.mark.parametrize("pattern", list(Pattern))
def test_phantom_has_shapes_and_types_of_its_contract(pattern: Pattern) -> None:
    """All arrays share the shape of the spec and have the promised types."""
    phantom = phantom_of(pattern)
    assert phantom.volume_hu.shape == (20, 96, 96)
    assert phantom.lung_labels.shape == phantom.lesion_mask.shape == (20, 96, 96)
    assert phantom.volume_hu.dtype == np.int16
    assert phantom.lung_labels.dtype == np.uint8
    assert phantom.lesion_mask.dtype == np.bool_
    assert phantom.spacing_mm == (15.0, 4.0, 4.0)
    assert set(np.unique(phantom.lung_labels)) == {0, RIGHT_LUNG, LEFT_LUNG}
    assert phantom.volume_hu.min() >= -1024


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lungs_have_adult_volumes_and_right_is_larger(seed: int) -> None:
    """Both lungs are those of an adult; the heart makes the left one smaller."""
    phantom = phantom_of(Pattern.NORMAL, seed)
    right, left = litres(phantom, RIGHT_LUNG), litres(phantom, LEFT_LUNG)
    assert 1.2 < left < right < 4.0


def test_right_lung_lies_at_low_columns() -> None:
    """The patient's right stands on the left of the picture."""
    phantom = phantom_of(Pattern.NORMAL)
    columns = [
        np.argwhere(phantom.lung_labels == label)[:, 2].mean() for label in (RIGHT_LUNG, LEFT_LUNG)
    ]
    assert columns[0] < columns[1]


def test_slices_run_from_caudal_to_cranial() -> None:
    """The liver lies in the lowest slices, the lungs are widest below their apices."""
    phantom = phantom_of(Pattern.NORMAL)
    in_lung = np.flatnonzero(phantom.lung_labels.any(axis=(1, 2)))
    size = (phantom.lung_labels > 0).sum(axis=(1, 2))
    # Domed bases and tapering apices: the middle holds most lung, the first slices none.
    assert in_lung[0] > 0
    assert size[in_lung[0]] < 0.35 * size.max()
    assert size[in_lung[-1]] < 0.6 * size.max()
    liver = phantom.volume_hu[0][(phantom.volume_hu[0] > 20) & (phantom.volume_hu[0] < 90)]
    assert liver.size * 4.0**2 > 10_000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tissues_have_their_hounsfield_units(seed: int) -> None:
    """Lung, air and bone lie where CT puts them."""
    phantom = phantom_of(Pattern.NORMAL, seed)
    lung_hu = phantom.volume_hu[phantom.lung_labels > 0]
    assert -900 < float(np.median(lung_hu)) < -780
    corner_hu = phantom.volume_hu[:, :6, :6]
    assert -1010 < float(corner_hu.mean()) < -990
    body = phantom.volume_hu[10]
    assert (body > 300).sum() > 30
    fat_share = ((body > -130) & (body < -70)).sum() / (body > -130).sum()
    muscle_share = ((body > 20) & (body < 90)).sum() / (body > -130).sum()
    assert 0.1 < fat_share < 0.7
    assert 0.15 < muscle_share < 0.8


def test_lungs_are_denser_behind() -> None:
    """Gravity shows: the back of the lungs of a lying patient is denser."""
    phantom = phantom_of(Pattern.NORMAL)
    rows = np.argwhere(phantom.lung_labels > 0)[:, 1]
    front, back = np.quantile(rows, [0.25, 0.75])
    row_of = np.broadcast_to(np.arange(96)[:, None], (20, 96, 96))
    is_lung = phantom.lung_labels > 0
    front_hu = np.median(phantom.volume_hu[is_lung & (row_of < front)])
    back_hu = np.median(phantom.volume_hu[is_lung & (row_of > back)])
    assert back_hu > front_hu + 15


def test_same_spec_gives_same_voxels() -> None:
    """A phantom is a function of its spec."""
    spec = replace(SMALL, pattern=Pattern.COVID_19, n_slices=6, slice_spacing_mm=50.0)
    first, second = make_phantom(spec), make_phantom(spec)
    assert np.array_equal(first.volume_hu, second.volume_hu)
    assert np.array_equal(first.lesion_mask, second.lesion_mask)
    other = make_phantom(replace(spec, seed=spec.seed + 1))
    assert not np.array_equal(first.lung_labels, other.lung_labels)


@pytest.mark.parametrize("pattern", [Pattern.COVID_19, Pattern.COMMUNITY_ACQUIRED_PNEUMONIA])
def test_lesions_lie_inside_the_lungs_and_change_no_mask(pattern: Pattern) -> None:
    """Lesions belong to lungs; the lungs are those of the same patient when healthy."""
    phantom = phantom_of(pattern)
    assert phantom.lesion_mask.any()
    assert not phantom.lesion_mask[phantom.lung_labels == 0].any()
    assert np.array_equal(phantom.lung_labels, phantom_of(Pattern.NORMAL).lung_labels)


def test_normal_phantom_has_no_lesion() -> None:
    """Normal means no lesion voxel at all."""
    assert not phantom_of(Pattern.NORMAL).lesion_mask.any()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_covid_like_lesions_are_ground_glass_in_both_lungs(seed: int) -> None:
    """Both lungs are affected and the opacity stays below soft tissue."""
    phantom = phantom_of(Pattern.COVID_19, seed)
    for label in (RIGHT_LUNG, LEFT_LUNG):
        lung = phantom.lung_labels == label
        assert phantom.lesion_mask[lung].mean() > 0.04
    lesion_hu = phantom.volume_hu[phantom.lesion_mask]
    healthy_hu = phantom.volume_hu[(phantom.lung_labels > 0) & ~phantom.lesion_mask]
    assert -760 < float(np.median(lesion_hu)) < -350
    assert float(np.median(lesion_hu)) > float(np.median(healthy_hu)) + 60


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pneumonia_like_lesions_hold_solid_consolidation(seed: int) -> None:
    """A good part of the lesion is as dense as soft tissue."""
    phantom = phantom_of(Pattern.COMMUNITY_ACQUIRED_PNEUMONIA, seed)
    lesion_hu = phantom.volume_hu[phantom.lesion_mask]
    assert float((lesion_hu > -150).mean()) > 0.25


def test_severity_sets_how_much_lung_is_affected() -> None:
    """More severe means more of the lungs, within the same patient."""
    spec = replace(SMALL, pattern=Pattern.COVID_19)
    shares = []
    for severity in (0.1, 0.9):
        phantom = make_phantom(replace(spec, severity=severity))
        shares.append(phantom.lesion_mask.sum() / (phantom.lung_labels > 0).sum())
    assert shares[0] < 0.2
    assert shares[1] > 0.35


def test_sharper_kernel_has_finer_noise() -> None:
    """Neighbouring pixels of a sharp kernel agree less than those of a soft one."""
    agreement = {}
    for kernel in (Kernel.SOFT, Kernel.LUNG):
        spec = replace(
            SMALL, kernel=kernel, n_slices=1, rows=128, columns=128, pixel_spacing_mm=0.8
        )
        noise = make_phantom(spec).volume_hu[0].astype(float)
        noise -= make_phantom(replace(spec, noise_hu=0.0)).volume_hu[0]
        agreement[kernel] = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
    assert agreement[Kernel.SOFT] > agreement[Kernel.LUNG] + 0.2


def test_abdomen_and_head_hold_no_lung() -> None:
    """The bodies that must be refused have organs, bones and air, and no lung."""
    abdomen = make_abdomen(replace(SMALL, n_slices=8))
    head = make_head(5, spec=replace(SMALL, n_slices=8, pixel_spacing_mm=2.2))
    for phantom in (abdomen, head):
        assert not phantom.lung_labels.any()
        assert not phantom.lesion_mask.any()
        assert (phantom.volume_hu > 300).any()
        assert ((phantom.volume_hu > 10) & (phantom.volume_hu < 90)).mean() > 0.05


@pytest.mark.parametrize("pattern", [Pattern.COVID_19, Pattern.COMMUNITY_ACQUIRED_PNEUMONIA])
def test_bodies_without_lungs_refuse_disease(pattern: Pattern) -> None:
    """Asking for pneumonia in an abdomen or a head is a mistake and named."""
    with pytest.raises(ValueError, match=pattern.value):
        make_abdomen(replace(SMALL, pattern=pattern))
    with pytest.raises(ValueError, match=pattern.value):
        make_head(1, spec=replace(SMALL, pattern=pattern))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("n_slices", 0),
        ("slice_spacing_mm", 0.0),
        ("pixel_spacing_mm", float("nan")),
        ("noise_hu", -1.0),
        ("severity", 1.1),
    ],
)
def test_spec_refuses_values_out_of_range(field: str, value: float) -> None:
    """Each impossible value is refused by name."""
    with pytest.raises(ValueError, match=field):
        replace(SMALL, **{field: value})


def test_typical_spec_covers_a_chest() -> None:
    """Whatever the seed, the protocol covers the body and the lungs."""
    for seed in range(20):
        spec = typical_spec(seed, Pattern.NORMAL)
        assert 350 <= spec.rows * spec.pixel_spacing_mm <= 421
        assert spec.n_slices * spec.slice_spacing_mm >= 318
