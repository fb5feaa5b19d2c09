"""A small PACS for the demo and the tests: it stores, answers C-FIND, and says what came.

Everything is believed and nothing is checked: never let it face a network.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pydicom.config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt

from screener.deliver.association import close_sockets_of_library
from screener.digest import content_digest
from screener.errors import RefusedInstance
from screener.receive.contexts import (
    ACCEPTED_SYNTAXES,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION_SOP_CLASS_UID,
)
from screener.receive.guard import configure_library
from screener.receive.header import CommandIdentity, parse_header
from screener.receive.part10 import FileMeta, encode_file_meta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pynetdicom.events import Event

#: Study Root Query/Retrieve Information Model, FIND (PS3.4 C.6.2).
_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_SUCCESS = 0x0000
_PENDING = 0xFF00
_CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One instance as the PACS keeps it."""

    path: Path
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    study_date: str
    calling_ae_title: str


class DemoPacs:
    """A PACS in this process.

    Parameters
    ----------
    folder
        Where it keeps what it gets; made where it is missing.
    ae_title
        Its name; it answers to any.
    port
        0 takes a free one; see `port`.

    Examples
    --------
    >>> with DemoPacs(folder, "TESTPACS") as pacs:  # doctest: +SKIP
    ...     pacs.wait_for(lambda files: len(files) >= 2, timeout_s=60)
    """

    def __init__(self, folder: Path, ae_title: str, port: int = 0, host: str = "127.0.0.1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ae = AE(ae_title)
        self._address = (host, port)
        self._files: list[StoredFile] = []
        self._changed = threading.Condition()
        self._server: Any = None
        syntaxes = [syntax.transfer_syntax_uid for syntax in ACCEPTED_SYNTAXES]
        plain = [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN]
        for context in AllStoragePresentationContexts:
            if context.abstract_syntax:
                self._ae.add_supported_context(context.abstract_syntax, syntaxes)
        for service in (VERIFICATION_SOP_CLASS_UID, _STUDY_ROOT_FIND):
            self._ae.add_supported_context(service, plain)

    @property
    def ae_title(self) -> str:
        """Its AE title."""
        return self._ae.ae_title

    @property
    def port(self) -> int:
        """The port it listens on; 0 while it does not run."""
        return int(self._server.server_address[1]) if self._server else 0

    def start(self) -> None:
        """Listen."""
        configure_library()
        close_sockets_of_library()
        self._server = self._ae.start_server(
            self._address,
            block=False,
            evt_handlers=self._handlers(),
        )

    def stop(self) -> None:
        """Stop listening; what it keeps stays."""
        if self._server is not None:
            self._server.shutdown()
            self._ae.shutdown()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def received(self) -> tuple[StoredFile, ...]:
        """Give what it keeps, in the order it came."""
        with self._changed:
            return tuple(self._files)

    def wait_for(
        self, condition: Callable[[Sequence[StoredFile]], bool], timeout_s: float
    ) -> tuple[StoredFile, ...]:
        """Wait until `condition` holds of what it keeps.

        Raises
        ------
        TimeoutError
            It did not hold within `timeout_s` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: condition(tuple(self._files)), timeout_s):
                raise TimeoutError(f"only {len(self._files)} objects after {timeout_s:g} s")
            return tuple(self._files)

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_C_ECHO, lambda _: _SUCCESS),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
        ]

    def _on_store(self, event: Event) -> int:
        request: Any = event.request
        content = event.encoded_dataset(include_meta=False)
        meta = FileMeta(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            source_ae_title=str(event.assoc.requestor.ae_title).strip(),
        )
        command = CommandIdentity(meta.sop_class_uid, meta.sop_instance_uid)
        try:
            header = parse_header(
                lambda at, n: content[at : at + n],
                len(content),
                meta.transfer_syntax_uid,
                command,
                b"",
            )
        except RefusedInstance as refusal:
            return refusal.status
        path = self._folder / f"{content_digest(content)}.dcm"
        path.write_bytes(encode_file_meta(meta) + content)
        stored = StoredFile(
            path=path,
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            modality=header.modality,
            study_date=header.study_date,
            calling_ae_title=meta.source_ae_title,
        )
        with self._changed:
            if stored not in self._files:
                self._files.append(stored)
            self._changed.notify_all()
        return _SUCCESS

    def _on_find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        question = event.identifier
        level = _text(question, "QueryRetrieveLevel")
        if level not in ("STUDY", "IMAGE"):
            yield _CANNOT_UNDERSTAND, None
            return
        rows = self._studies() if level == "STUDY" else self._instances()
        for row in rows:
            if all(_matches(_text(question, key), value) for key, value in row.items()):
                answer = {"QueryRetrieveLevel": level}
                answer |= {key: value for key, value in row.items() if key in question}
                yield _PENDING, _identifier(answer)

    def _studies(self) -> list[dict[str, str]]:
        by_study: dict[str, list[StoredFile]] = {}
        for one in self.received():
            by_study.setdefault(one.study_instance_uid, []).append(one)
        return [
            {
                "StudyInstanceUID": study_instance_uid,
                "StudyDate": files[0].study_date,
                "ModalitiesInStudy": "\\".join(sorted({one.modality for one in files})),
                "NumberOfStudyRelatedInstances": str(len(files)),
            }
            for study_instance_uid, files in by_study.items()
        ]

    def _instances(self) -> list[dict[str, str]]:
        return [
            {
                "StudyInstanceUID": one.study_instance_uid,
                "SeriesInstanceUID": one.series_instance_uid,
                "SOPInstanceUID": one.sop_instance_uid,
            }
            for one in self.received()
        ]


def _matches(wanted: str, value: str) -> bool:
    """Match one key: universal, a range, or one of several values (PS3.4 C.2.2.2)."""
    if not wanted or wanted == "*":
        return True
    first, is_range, last = wanted.partition("-")
    if is_range and (first + last).isdecimal():
        return (first or "0") <= value <= (last or "9")
    return wanted in value.split("\\")


def _text(question: Dataset, keyword: str) -> str:
    element = question.get_item(keyword) if keyword in question else None
    if element is None or not element.value:
        return ""
    if isinstance(element, RawDataElement):
        return (element.value or b"").decode("latin-1").strip(" \x00")
    return str(element.value).strip()


def _identifier(values: dict[str, str]) -> Dataset:
    identifier = Dataset()
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        if tag is not None:
            ignore = pydicom.config.IGNORE  # UIDs may be UUID text
            identifier[tag] = DataElement(tag, dictionary_VR(tag), value, validation_mode=ignore)
    return identifier
