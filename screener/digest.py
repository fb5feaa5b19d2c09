"""The content digest: what an instance is known by, beside its UID.

BLAKE3, 256 bits, hexadecimal. Why not SHA-256: every instance is hashed while its sender waits, and
a processor without SHA instructions needs thirteen times as long for it (ADR 28).
"""

from __future__ import annotations

from typing import BinaryIO, TypeAlias

from blake3 import blake3

_CHUNK_BYTES = 1024 * 1024

#: A digest that grows: `update` takes bytes, `hexdigest` may be asked at any time.
ContentHash: TypeAlias = blake3


def content_hash() -> ContentHash:
    """Begin the digest of an encoded data set."""
    return blake3()


def content_digest(content: bytes | memoryview) -> str:
    """Give the digest of an encoded data set."""
    return blake3(content).hexdigest()


def digest_rest(stream: BinaryIO) -> str:
    """Give the digest of what a stream has from where it stands to its end."""
    digest = blake3()
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
