"""A PACS with moods: it stores as the product's test PACS does, or does what real ones do."""

from __future__ import annotations

import socket
import threading
from collections import defaultdict
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

from pynetdicom import evt

from screener.demo.pacs import DemoPacs
from screener.digest import content_digest

if TYPE_CHECKING:
    from pathlib import Path

    from pynetdicom.events import Event

_OUT_OF_RESOURCES = 0xA700
_ELEMENTS_DISCARDED = 0xB000
_SUCCESS = 0x0000
#: Storage Commitment Push Model (PS3.4 J.3).
_COMMITMENT = "1.2.840.10008.1.20.1"
_SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]


class Mood(Enum):
    """What the archive does to a C-STORE."""

    HEALTHY = "stores"
    FULL = "answers 0xA700"
    WARNING = "stores and answers 0xB000"
    ABORT = "aborts instead of an answer"
    SILENT = "reads, and does not answer until the peer gives up"
    FORGETFUL = "answers success and keeps nothing"


class Archive(DemoPacs):
    """A test PACS whose mood can change while it runs.

    ``offered`` counts, by SOP Instance UID, the contents that were ever offered under it: two
    contents under one UID would be a broken promise of the sender.
    """

    def __init__(self, folder: Path, ae_title: str, port: int) -> None:
        super().__init__(folder, ae_title, port)
        self.mood = Mood.HEALTHY
        self.offered: dict[str, set[str]] = defaultdict(set)
        self.released = threading.Event()
        self.n_promises = 0
        self._ae.add_supported_context(_COMMITMENT, _SYNTAXES)

    def _handlers(self) -> list[Any]:
        return [*super()._handlers(), (evt.EVT_N_ACTION, self._on_action)]

    def _on_action(self, _: Event) -> tuple[int, None]:
        """Promise to report a storage commitment; nothing ever comes."""
        self.n_promises += 1
        return _SUCCESS, None

    def _on_store(self, event: Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        content = event.encoded_dataset(include_meta=False)
        self.offered[uid].add(content_digest(content))
        if self.mood is Mood.FULL:
            return _OUT_OF_RESOURCES
        if self.mood is Mood.FORGETFUL:
            return _SUCCESS
        if self.mood is Mood.ABORT:
            event.assoc.abort()
            return _OUT_OF_RESOURCES
        if self.mood is Mood.SILENT:
            self.released.wait(30.0)
            return _OUT_OF_RESOURCES
        status = super()._on_store(event)
        return _ELEMENTS_DISCARDED if self.mood is Mood.WARNING and status == _SUCCESS else status

    def heal(self) -> None:
        """Store again, and let go whoever waits for an answer."""
        self.mood = Mood.HEALTHY
        self.released.set()


class BlackHole:
    """A port that accepts connections and never says a word."""

    def __init__(self, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", port), backlog=64)
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # closing alone would not end the waiting accept
        self._server.close()
        self._thread.join()
        for one in self._held:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._held.append(connection)
