"""Read a multipart body part by part while it arrives (RFC 2046 5.1), within fixed memory."""

from __future__ import annotations

import re
from email.message import Message
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Headers of one part are far smaller.
MAX_HEAD_BYTES = 16 * 1024
#: RFC 2046 5.1.1: what a boundary may consist of.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


class BrokenMultipart(ValueError):
    """The bytes are no multipart body, or end before it does."""


class MultipartReader:
    """Gives the parts of one body in order.

    Parameters
    ----------
    content_type
        Content-Type of the answer.
    chunks
        Its bytes as they come.

    Raises
    ------
    BrokenMultipart
        The media type is not multipart/related, or names no usable boundary.
    """

    def __init__(self, content_type: str, chunks: Iterator[bytes]) -> None:
        header = Message()
        header["Content-Type"] = content_type
        boundary = header.get_boundary("")
        if header.get_content_type() != "multipart/related" or not _BOUNDARY.fullmatch(boundary):
            raise BrokenMultipart("it is no multipart/related body with a boundary")
        self._delimiter = f"\r\n--{boundary}".encode("ascii")
        self._chunks = chunks
        # The first delimiter may stand at the very beginning, without its line break.
        self._buffer = bytearray(b"\r\n")

    def parts(self, media_type: str) -> Iterator[Iterator[bytes]]:
        """Give the bytes of each part; what is not read of one is skipped.

        Parameters
        ----------
        media_type
            What every part must be; one that does not say what it is is believed.

        Raises
        ------
        BrokenMultipart
            The body ends before its closing delimiter, or is not what it says; also while the
            bytes of a part are read.
        """
        for _ in self._up_to_delimiter():  # the preamble says nothing
            pass
        while not self._is_closed():
            found = self._head()
            if found not in {media_type, ""}:
                raise BrokenMultipart(f"a part is not {media_type}")
            content = self._up_to_delimiter()
            yield content
            for _ in content:
                pass

    def _up_to_delimiter(self) -> Iterator[bytes]:
        """Give the bytes before the next delimiter, and consume both."""
        keep = len(self._delimiter) - 1
        while (at := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > keep:
                ready = bytes(self._buffer[:-keep])
                del self._buffer[:-keep]
                yield ready
            self._read_more()
        ready = bytes(self._buffer[:at])
        del self._buffer[: at + len(self._delimiter)]
        if ready:
            yield ready

    def _is_closed(self) -> bool:
        """Whether the delimiter just consumed was the last; else go to the head of a part."""
        while len(self._buffer) < len(b"--"):
            self._read_more()
        if self._buffer.startswith(b"--"):
            return True
        padding = self._line()
        if padding.strip(b" \t"):
            raise BrokenMultipart("its boundary stands within a part")
        return False

    def _head(self) -> str:
        """Read the headers of a part; gives its Content-Type, lower case, without parameters."""
        content_type = ""
        n_bytes = 0
        while line := self._line():
            n_bytes += len(line)
            if n_bytes > MAX_HEAD_BYTES:
                raise BrokenMultipart("the headers of a part are too long")
            name, _, value = line.decode("latin-1").partition(":")
            if name.strip().lower() == "content-type":
                content_type = value.partition(";")[0].strip().lower()
        # The delimiter after an empty part shares its line break with the end of the headers.
        self._buffer[:0] = b"\r\n" if self._begins_with_delimiter() else b""
        return content_type

    def _begins_with_delimiter(self) -> bool:
        short = self._delimiter[2:]
        while len(self._buffer) < len(short):
            self._read_more()
        return self._buffer.startswith(short)

    def _line(self) -> bytes:
        while (at := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BrokenMultipart("the headers of a part are too long")
            self._read_more()
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 2]
        return line

    def _read_more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise BrokenMultipart("it ends before its closing boundary")
        self._buffer += chunk
