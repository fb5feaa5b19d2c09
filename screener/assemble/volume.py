"""Decode the slices of a series ahead of who needs them, into one volume.

Threads decode while the network already works on the first slices: batches come in order, and the
whole volume is there when the last one has been taken.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from screener.assemble.codecs import decode_frame
from screener.assemble.decoders import FrameDecoder
from screener.assemble.pixels import can_decode, read_frame_hu
from screener.assemble.selection import SelectedSeries
from screener.domain import (
    DefectCode,
    HuArray,
    NotAnalysedReason,
    SliceSource,
    SourceDefect,
    Volume,
)
from screener.errors import NotAnalysable, UnreadablePixels, UnsafePixels

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DecodingRules:
    """Bounds and threads of decoding."""

    n_threads: int = 2
    batch_size: int = 8  #: slices that are handed on together
    max_volume_bytes: int = 4 << 30  #: of the decoded volume; 8,000 slices of 512 x 512
    decode: FrameDecoder = decode_frame  #: who decodes a compressed frame
    on_unsafe: Callable[[str], None] = lambda _: None  #: hears the content digest of such a slice
    #: Hears the content digest of a CT whose header holds values that cannot be.
    on_impossible: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        if self.n_threads < 1 or self.batch_size < 1:
            raise ValueError(
                f"n_threads and batch_size must be at least 1, not {self.n_threads} and "
                f"{self.batch_size}"
            )


class DecodedSeries:
    """A series while it is being decoded; made by ``decode_series``."""

    def __init__(self, selected: SelectedSeries, rules: DecodingRules) -> None:
        self._selected = selected
        self._rules = rules
        rows, columns = _matrix(selected)
        n_bytes = 2 * len(selected.slices) * rows * columns
        if n_bytes > rules.max_volume_bytes:
            raise NotAnalysable(
                NotAnalysedReason.UNREADABLE_PIXELS,
                f"the series decodes to {n_bytes} bytes, at most {rules.max_volume_bytes} are set",
            )
        self._volume_hu: HuArray = np.empty((len(selected.slices), rows, columns), dtype=np.int16)
        self._n_padded_slices = 0
        self._n_decoded = 0

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between slices, rows and columns; known before the first slice is decoded."""
        return (
            self._selected.geometry.slice_spacing_mm,
            *_pixel_spacing_mm(self._selected),
        )

    def batches(self) -> Iterator[tuple[int, HuArray]]:
        """Give ``(index of the first slice, HU of the batch)``, in order, as they are decoded.

        The arrays are views of the volume: ``(batch, rows, columns)``.

        Raises
        ------
        NotAnalysable
            UNREADABLE_PIXELS, with the number of the slice and why.
        """
        n_slices = len(self._selected.slices)
        ahead = self._rules.batch_size + 2 * self._rules.n_threads
        with ThreadPoolExecutor(self._rules.n_threads, "decode") as pool:
            running: deque[Future[int]] = deque()
            try:
                start = 0
                for index in range(min(ahead, n_slices)):
                    running.append(pool.submit(self._decode_slice, index))
                for index in range(n_slices):
                    self._take(running.popleft(), index)
                    if index + ahead < n_slices:
                        running.append(pool.submit(self._decode_slice, index + ahead))
                    if index + 1 - start == self._rules.batch_size or index + 1 == n_slices:
                        yield start, self._volume_hu[start : index + 1]
                        start = index + 1
            finally:
                for future in running:
                    future.cancel()

    def volume(self) -> Volume:
        """Give the whole volume.

        Raises
        ------
        ValueError
            Some batches have not been taken yet.
        """
        if self._n_decoded < len(self._selected.slices):
            raise ValueError("take all batches before the volume")
        return Volume(
            series_instance_uid=self._selected.series_instance_uid,
            frame_of_reference_uid=self._selected.frame_of_reference_uid,
            volume_hu=self._volume_hu,
            spacing_mm=self.spacing_mm,
            slices=slice_sources(self._selected),
            geometry=self._selected.geometry,
        )

    @property
    def defects(self) -> tuple[SourceDefect, ...]:
        """What decoding found out about the source so far."""
        if not self._n_padded_slices:
            return ()
        detail = f"padding values were replaced by air in {self._n_padded_slices} slices"
        return (SourceDefect(DefectCode.PIXEL_PADDING, detail, self._n_padded_slices),)

    def _decode_slice(self, index: int) -> int:
        """Decode one slice into its place; give the number of padding pixels."""
        one = self._selected.slices[index]
        try:
            self._volume_hu[index], n_padding = read_frame_hu(one, self._rules.decode)
        except UnsafePixels:
            self._rules.on_unsafe(one.header.instance.content_digest)
            raise
        return n_padding

    def _take(self, future: "Future[int]", index: int) -> None:
        try:
            n_padding = future.result()
        except UnreadablePixels as error:
            raise NotAnalysable(
                NotAnalysedReason.UNREADABLE_PIXELS,
                f"slice {index + 1} of {len(self._selected.slices)}: {error}",
            ) from error
        self._n_padded_slices += n_padding > 0
        self._n_decoded += 1


def decode_series(selected: SelectedSeries, rules: DecodingRules) -> DecodedSeries:
    """Prepare the decoding of a series; it starts with the first batch that is taken.

    Raises
    ------
    NotAnalysable
        UNREADABLE_PIXELS: no decoder for its transfer syntax, or larger than allowed.
    """
    syntaxes = {one.header.instance.transfer_syntax_uid for one in selected.slices}
    for transfer_syntax_uid in sorted(syntaxes):
        if not can_decode(transfer_syntax_uid):
            raise NotAnalysable(
                NotAnalysedReason.UNREADABLE_PIXELS,
                f"no decoder for transfer syntax {transfer_syntax_uid}",
            )
    return DecodedSeries(selected, rules)


def slice_sources(selected: SelectedSeries) -> tuple[SliceSource, ...]:
    """Say where each slice of the series comes from, caudal to cranial."""
    rows, columns = _matrix(selected)
    return tuple(
        SliceSource(
            instance=one.header.instance,
            frame_number=one.frame.frame_number,
            position_mm=_known(one.frame.position_mm),
            orientation=_known(one.frame.orientation),
            pixel_spacing_mm=_known(one.frame.pixel_spacing_mm),
            rows=rows,
            columns=columns,
            location_mm=location_mm,
            slice_thickness_mm=one.frame.slice_thickness_mm,
            instance_number=one.header.instance_number,
        )
        for one, location_mm in zip(selected.slices, selected.locations_mm, strict=True)
    )


def _matrix(selected: SelectedSeries) -> tuple[int, int]:
    pixels = selected.slices[0].header.pixels
    if pixels is None:
        raise ValueError("a selected series has pixels")
    return pixels.rows, pixels.columns


def _pixel_spacing_mm(selected: SelectedSeries) -> tuple[float, float]:
    return _known(selected.slices[0].frame.pixel_spacing_mm)


def _known(value: T | None) -> T:
    """Unwrap a value that selection has already demanded."""
    if value is None:
        raise ValueError("selection lets no slice pass without a plane")
    return value
