"""Keep one instance so that it survives a power cut: write, fsync, rename, fsync the folder.

The encoded data set is kept as it came; only preamble and file meta are ours. A file is named by
the digest of its data set, never by a value that a sender chose. Two folders on one file system:
``incoming/`` for what is being written, ``store/ab/`` for what is kept.

A sender waits for each of these steps, hundreds of times for a study: files are descriptors here,
and no path is taken apart again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from screener.digest import content_hash
from screener.durable import sync_folder
from screener.errors import SpoolFull
from screener.receive.part10 import FileMeta, encode_file_meta

if TYPE_CHECKING:
    from collections.abc import Iterator

PART_SUFFIX = ".part"
KEPT_SUFFIX = ".dcm"

#: The disk starts to write after so many bytes, while the rest is still on the wire: less is left
#: for the fsync that the sender waits for (measured: a quarter of its time).
_WRITE_BEHIND_BYTES = 128 * 1024

#: So much of a data set stays in memory until it is kept: its header, nearly always.
_HEAD_BYTES = 32 * 1024

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600


class PendingInstance:
    """One instance while it is received: a locked ``.part`` file and a running digest.

    Writing never raises: it happens in the network thread of the association, where an error
    could only abort it. A failure is kept and raised by :meth:`Spool.keep`, which answers the
    sender with a status.
    """

    def __init__(
        self, part_path: str, descriptor: int | None, meta: FileMeta, failure: OSError | None
    ) -> None:
        self.part_path = part_path
        self.meta = meta
        self.n_data_set_bytes = 0
        self.data_set_offset = 0
        self.is_kept = False
        self._n_file_bytes = 0
        self._n_behind_bytes = 0  # handed to the disk already
        self._descriptor = descriptor  # None: its bytes go nowhere
        self._failure = failure
        self._hash = content_hash()
        self._head = bytearray()
        if descriptor is not None:
            head = encode_file_meta(meta)
            self.data_set_offset = len(head)
            self._write_through(descriptor, head)

    @property
    def content_digest(self) -> str:
        """Digest of the encoded data set so far, hexadecimal."""
        return self._hash.hexdigest()

    def write(self, fragment: bytes | memoryview) -> int:
        """Append a fragment of the encoded data set; gives the number of bytes taken."""
        self._hash.update(fragment)
        self.n_data_set_bytes += len(fragment)
        if len(self._head) < _HEAD_BYTES:
            self._head += fragment[: _HEAD_BYTES - len(self._head)]
        if self._descriptor is not None and self._failure is None:
            self._write_through(self._descriptor, fragment)
        return len(fragment)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Read back up to so many bytes of the data set.

        Raises
        ------
        SpoolFull
            It could not be written, or cannot be read.
        """
        descriptor = self._written()
        if offset + n_bytes <= len(self._head):
            return bytes(self._head[offset : offset + n_bytes])
        try:
            return os.pread(descriptor, n_bytes, self.data_set_offset + offset)
        except OSError as error:
            raise SpoolFull("the spool cannot be read") from error

    def make_durable(self) -> None:
        """Bring every byte to stable storage and check that none is missing.

        Raises
        ------
        SpoolFull
            The disk is full or failed. An fsync that failed is never tried again: the kernel may
            have dropped the pages, and a second call would lie.
        """
        descriptor = self._written()
        try:
            os.fsync(descriptor)
            n_bytes = os.fstat(descriptor).st_size
        except OSError as error:
            raise SpoolFull("the spool cannot be written") from error
        if n_bytes != self.data_set_offset + self.n_data_set_bytes:
            raise SpoolFull("the spool file is shorter than what was received")

    def close(self) -> None:
        """Close the file; the lock goes with it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):  # known already, or no longer of any matter
                os.close(descriptor)

    def _write_through(self, descriptor: int, content: bytes | memoryview) -> None:
        # Unbuffered: fragments are large, and a buffer would copy each once more.
        try:
            n_written = os.write(descriptor, content)
            while n_written < len(content):
                n_written += os.write(descriptor, content[n_written:])
            self._n_file_bytes += n_written
            if self._n_file_bytes - self._n_behind_bytes >= _WRITE_BEHIND_BYTES:
                self._write_behind(descriptor)
        except OSError as error:
            self._failure = error

    def _write_behind(self, descriptor: int) -> None:
        """Let the disk begin; a hint, which changes nothing of what the fsync promises."""
        start, n_bytes = self._n_behind_bytes, self._n_file_bytes - self._n_behind_bytes
        # What is being written cannot be dropped, so all that "not needed" does is to write it.
        os.posix_fadvise(descriptor, start, n_bytes, os.POSIX_FADV_DONTNEED)
        self._n_behind_bytes = self._n_file_bytes

    def _written(self) -> int:
        """Give the descriptor of a file that has every byte so far."""
        if self._failure is not None or self._descriptor is None:
            raise SpoolFull("the spool is full or cannot be written") from self._failure
        return self._descriptor


class Spool:
    """The folder of received instances.

    Parameters
    ----------
    root
        Folder; made where it is missing.
    reserve_bytes
        Free space below which nothing new is taken.
    """

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        self.incoming = root / "incoming"
        self.store = root / "store"
        self._incoming, self._store = str(self.incoming), str(self.store)
        self._shards = tuple(self.store / f"{number:02x}" for number in range(256))
        self._reserve_bytes = reserve_bytes
        for folder in (root, self.incoming, self.store):
            folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)

    def prepare(self) -> None:
        """Make every folder of the store at once, so that no instance waits for the sync of one.

        Raises
        ------
        SpoolFull
            The disk refused.
        """
        try:
            for folder in self._shards:
                folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
            sync_folder(self.store)
        except OSError as error:
            raise SpoolFull("the spool cannot be written") from error

    def has_room(self) -> bool:
        """Whether the disk has more free space than the reserve; not where it cannot be asked."""
        try:
            disk = os.statvfs(self._store)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize > self._reserve_bytes

    def begin(self, meta: FileMeta) -> PendingInstance:
        """Open a ``.part`` file for one instance.

        Never raises for a full disk: the pending instance then takes its bytes nowhere and says
        so when it is to be kept.
        """
        part_path = f"{self._incoming}/{secrets.token_hex(16)}{PART_SUFFIX}"
        if not self.has_room():
            failure = OSError(errno.ENOSPC, "below the reserve")
            return PendingInstance(part_path, None, meta, failure)
        try:
            descriptor = os.open(part_path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _FILE_MODE)
        except OSError as error:
            return PendingInstance(part_path, None, meta, error)
        # The lock tells the janitor of another process that somebody is still writing. Should a
        # janitor be faster, the rename fails and the sender is asked to send again.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return PendingInstance(part_path, descriptor, meta, None)

    def keep(self, pending: PendingInstance) -> Path:
        """Make a pending instance durable under its final name.

        The same content again replaces its own file: the bytes are equal, and a file damaged on
        disk is mended.

        Returns
        -------
        :
            ``store/ab/<content digest>.dcm``.

        Raises
        ------
        SpoolFull
            The disk is below its reserve, full or failed; the ``.part`` file is gone.
        """
        try:
            pending.make_durable()
            digest = pending.content_digest
            folder = self._shards[int(digest[:2], 16)]
            path = folder / f"{digest}{KEPT_SUFFIX}"
            self._make_shard(folder)
            os.rename(pending.part_path, path)  # noqa: PTH104 - see above
            sync_folder(folder)
        except OSError as error:
            self.discard(pending)
            raise SpoolFull("the spool cannot be written") from error
        except SpoolFull:
            self.discard(pending)
            raise
        pending.close()
        pending.is_kept = True
        return path

    def discard(self, pending: PendingInstance) -> None:
        """Remove a pending instance; safe to call twice, and after it was kept."""
        if not pending.is_kept:
            pending.close()
            Path(pending.part_path).unlink(missing_ok=True)

    def remove_abandoned(self) -> int:
        """Remove ``.part`` files that nobody is writing any more; gives their number."""
        return sum(_remove_if_unlocked(path) for path in self.incoming.glob(f"*{PART_SUFFIX}"))

    def shards(self) -> Iterator[tuple[Path, ...]]:
        """Give the kept files, one folder at a time."""
        for folder in sorted(path for path in self.store.iterdir() if path.is_dir()):
            yield tuple(sorted(folder.glob(f"*{KEPT_SUFFIX}")))

    def _make_shard(self, folder: Path) -> None:
        if not os.path.isdir(folder):  # noqa: PTH112 - the same
            folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
            sync_folder(self._store)


def _remove_if_unlocked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False  # its listener is writing, or has just finished
    return True
