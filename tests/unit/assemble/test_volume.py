"""Decoding ahead: batches in order, the volume complete, failures named."""

from pathlib import Path

import numpy as np
import pytest

from screener.assemble import (
    DecodingRules,
    SelectedSeries,
    SelectionRules,
    decode_series,
    rank_series,
    read_headers,
)
from screener.domain import DefectCode, NotAnalysedReason
from screener.errors import NotAnalysable
from tests.ct_factories import only_study, write_series


def select(folder: Path) -> SelectedSeries:
    (selected,) = rank_series(read_headers(only_study(folder)), SelectionRules()).qualified
    return selected


def numbered_series(folder: Path) -> SelectedSeries:
    """Slice n, counted from the feet, holds 1024 + n."""
    values = {n: {"PixelData": np.full((8, 8), 1024 + n, dtype="<u2").tobytes()} for n in range(24)}
    return select(write_series(folder, per_slice=values))


@pytest.mark.parametrize(("n_threads", "batch_size"), [(1, 1), (2, 8), (4, 5), (3, 100)])
def test_batches_come_in_order_and_fill_the_volume(
    tmp_path: Path, n_threads: int, batch_size: int
) -> None:
    """Any number of threads, any batch size: the same slices in the same order."""
    decoded = decode_series(numbered_series(tmp_path), DecodingRules(n_threads, batch_size))
    starts, values = [], []
    for start, batch in decoded.batches():
        starts.append(start)
        values += batch[:, 0, 0].tolist()
    assert starts == list(range(0, 24, batch_size))
    assert values == list(range(24))
    volume = decoded.volume()
    assert volume.volume_hu[:, 3, 3].tolist() == list(range(24))
    assert volume.spacing_mm == (5.0, 1.0, 1.0)
    assert [one.location_mm for one in volume.slices] == [5.0 * n for n in range(24)]
    assert decoded.defects == ()


def test_volume_before_all_batches_is_a_mistake(tmp_path: Path) -> None:
    """A half-decoded volume holds whatever was in memory: nobody gets it."""
    decoded = decode_series(numbered_series(tmp_path), DecodingRules(batch_size=4))
    next(decoded.batches())
    with pytest.raises(ValueError, match="take all batches"):
        decoded.volume()


def test_damaged_slice_is_named(tmp_path: Path) -> None:
    """The seventh slice is cut short: the refusal says which and why."""
    folder = write_series(tmp_path, per_slice={6: {"PixelData": b"\0" * 10}})
    with pytest.raises(NotAnalysable) as caught:
        list(decode_series(select(folder), DecodingRules()).batches())
    assert caught.value.reason is NotAnalysedReason.UNREADABLE_PIXELS
    assert "slice 7 of 24" in caught.value.detail


def test_padding_is_reported_with_the_number_of_slices(tmp_path: Path) -> None:
    """Air outside the reconstruction circle was stored as 4000."""
    padded = {
        n: {
            "PixelData": np.full((8, 8), 4000, dtype="<u2").tobytes(),
            "PixelPaddingValue": 4000,
        }
        for n in range(3)
    }
    decoded = decode_series(select(write_series(tmp_path, per_slice=padded)), DecodingRules())
    list(decoded.batches())
    (defect,) = decoded.defects
    assert (defect.code, defect.n_instances) == (DefectCode.PIXEL_PADDING, 3)
    assert (decoded.volume().volume_hu[:3] == -1024).all()


def test_volume_larger_than_allowed_is_refused(tmp_path: Path) -> None:
    """The size is known before memory is spent."""
    with pytest.raises(NotAnalysable) as caught:
        decode_series(numbered_series(tmp_path), DecodingRules(max_volume_bytes=1000))
    assert caught.value.reason is NotAnalysedReason.UNREADABLE_PIXELS


def test_rules_without_threads_are_refused() -> None:
    """No threads would decode nothing."""
    with pytest.raises(ValueError, match="at least 1"):
        DecodingRules(n_threads=0)
