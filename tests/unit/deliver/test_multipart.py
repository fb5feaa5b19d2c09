"""Multipart bodies in pieces of any size: the same parts, within fixed memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screener.deliver.multipart import BrokenMultipart, MultipartReader

BOUNDARY = "b"
CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def encode(parts: list[bytes]) -> bytes:
    heads = (b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + part for part in parts)
    return b"".join(heads) + b"\r\n--b--\r\n"


def in_pieces(body: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield body[at : at + size]
        at += size
    yield body[at:]


def read(body: Iterator[bytes]) -> list[bytes]:
    reader = MultipartReader(CONTENT_TYPE, body)
    return [b"".join(part) for part in reader.parts("application/dicom")]


#: What looks like a delimiter and is none belongs to the part.
CONTENT = st.lists(st.sampled_from([b"\r", b"\n", b"-", b"\r\n--", b"a", b"\r\n--c"]), max_size=9)


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(CONTENT.map(b"".join), max_size=4),
    sizes=st.lists(st.integers(1, 7), max_size=40),
)
def test_parts_do_not_depend_on_the_pieces(parts: list[bytes], sizes: list[int]) -> None:
    """Wherever the body is cut, each part comes back as it was."""
    assert read(in_pieces(encode(parts), sizes)) == parts


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 60))
def test_body_that_ends_early_is_broken(cut: int) -> None:
    """Wherever it ends before its closing delimiter, that is no shorter list."""
    body = encode([b"one", b"two"])
    whole = body[: -len(b"--\r\n")]
    with pytest.raises(BrokenMultipart):
        read(iter([whole[: min(cut, len(whole))]]))


def test_large_part_is_never_held_whole() -> None:
    """Of 64 MiB in pieces no more than a piece and a delimiter waits in memory."""
    piece = b"\r\n--" * 16384
    n_pieces = 1024
    chunks = iter([encode([])[:-7] + b"\r\n--b\r\n\r\n", *([piece] * n_pieces), b"\r\n--b--"])
    reader = MultipartReader(CONTENT_TYPE, chunks)
    n_bytes = 0
    for part in reader.parts("application/dicom"):
        for chunk in part:
            n_bytes += len(chunk)
            assert len(chunk) <= len(piece) + 16
            assert len(reader._buffer) <= len(piece) + 16
    assert n_bytes == len(piece) * n_pieces


def test_part_that_is_not_read_is_skipped() -> None:
    """Who takes only the beginning of a part still finds the next."""
    reader = MultipartReader(CONTENT_TYPE, in_pieces(encode([b"a" * 50, b"b" * 50]), [3] * 40))
    assert [next(part)[:1] for part in reader.parts("application/dicom")] == [b"a", b"b"]
