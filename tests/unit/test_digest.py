"""The content digest is the published function, however its input is cut."""

import io

import pytest

from screener.digest import content_digest, content_hash, digest_rest

#: Test vectors of the BLAKE3 paper's authors: bytes that count 0 to 250 again and again.
VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
}


@pytest.mark.parametrize(("n_bytes", "expected"), VECTORS.items())
def test_digest_is_blake3(n_bytes: int, expected: str) -> None:
    """At once, in pieces and from a stream: the vector that is published."""
    content = bytes(number % 251 for number in range(n_bytes))
    pieces = content_hash()
    for start in range(0, n_bytes, 1000):
        pieces.update(content[start : start + 1000])
    assert content_digest(content) == pieces.hexdigest() == expected
    assert digest_rest(io.BytesIO(b"before" + content)) != expected
    stream = io.BytesIO(b"before" + content)
    stream.seek(len(b"before"))
    assert digest_rest(stream) == expected
