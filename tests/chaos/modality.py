"""A modality that never gives up: it sends every instance until somebody acknowledged it.

What it remembers is the one thing the node promised: which contents it answered with success.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from pynetdicom import AE, _config

from screener.digest import content_digest
from tests.integration.receivers import data_set_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pynetdicom.association import Association

#: How long one answer may take before the association is given up, in seconds.
ANSWER_S = 15.0
#: Pause before an association is tried again, in seconds.
PAUSE_S = 0.5
_SUCCESS = 0x0000


@dataclass(frozen=True, slots=True)
class ChaosStudy:
    """One study on disk."""

    study_instance_uid: str
    files: tuple[Path, ...]


class Sending(threading.Thread):
    """A thread that sends; who waits for its end hears if it could not."""

    is_done = False

    def run(self) -> None:
        """Send, and note that it came to its end."""
        super().run()
        self.is_done = True

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end; a modality that stumbled is no node that lost something."""
        super().join(timeout)
        if not self.is_alive() and not self.is_done:
            raise AssertionError("a modality could not send; its error is above")


@dataclass
class Modality:
    """Sends studies to one node and keeps the books of what was acknowledged.

    ``acknowledged`` holds ``(study, content digest as sent)``; ``statuses`` every status that was
    answered, in order.
    """

    ae_title: str
    port: int
    acknowledged: set[tuple[str, str]] = field(default_factory=set)
    statuses: list[int] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, study: ChaosStudy, files: Sequence[Path] | None = None) -> None:
        """Send until every file is acknowledged, over as many associations as that takes."""
        waiting = list(study.files if files is None else files)
        while waiting and not self.stop.is_set():
            waiting = self._send_once(study, waiting)
            if waiting:
                self.stop.wait(PAUSE_S)

    def send_in_background(self, study: ChaosStudy, files: Sequence[Path] | None = None) -> Sending:
        """Send in a thread of its own."""
        thread = Sending(target=self.send, args=(study, files), daemon=True)
        thread.start()
        return thread

    def _send_once(self, study: ChaosStudy, files: Sequence[Path]) -> list[Path]:
        """Send over one association; give what was not acknowledged."""
        association = self._associate(files[0])
        if not association.is_established:
            return list(files)
        try:
            return [path for path in files if not self._store(association, study, path)]
        finally:
            if association.is_established:
                association.release()

    def _associate(self, example: Path) -> Association:
        ae = AE(self.ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ANSWER_S
        ae.connection_timeout = ANSWER_S
        meta = pydicom.filereader.read_file_meta_info(example)
        ae.add_requested_context(meta.MediaStorageSOPClassUID, [meta.TransferSyntaxUID])
        return ae.associate("127.0.0.1", self.port, ae_title="SCREENER")

    def _store(self, association: Association, study: ChaosStudy, path: Path) -> bool:
        if not association.is_established:
            return False
        answer = pydicom.Dataset()
        # The node may die under the library at any moment; that is what is tested.
        with contextlib.suppress(RuntimeError, ValueError, OSError):
            answer = association.send_c_store(path)
        status = answer.get("Status")
        if status is None:
            return False
        digest = content_digest(data_set_of(path))
        with self._lock:
            self.statuses.append(int(status))
            if status == _SUCCESS:
                self.acknowledged.add((study.study_instance_uid, digest))
        return bool(status == _SUCCESS)


def configure_sender() -> None:
    """Send files as they lie on disk, byte for byte."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
