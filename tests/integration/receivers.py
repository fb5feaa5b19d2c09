"""Nodes to send to and to ask: addresses, small objects, and an SCP that follows a script."""

from __future__ import annotations

import json
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, evt

from screener.deliver.scu import DeliverableObject
from screener.domain import DimseNode, ResultKind
from screener.receive.part10 import FileMeta, encode_file_meta
from screener.settings import Settings
from tests.integration.conftest import PATIENCE_S, free_port
from tests.receive_factories import (
    CT_IMAGE,
    EXPLICIT,
    IMPLICIT,
    SERIES_UID,
    ct_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
REPORT = "1.2.840.10008.5.1.4.1.1.88.34"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
UUID_TEXT = "896911bf-1143-4c8d-8f04-f3cd1a7f6204"


def dimse_node(
    port: int, *, ae_title: str = "TESTPACS", timeout_s: float = PATIENCE_S
) -> DimseNode:
    return DimseNode("pacs", ae_title, "127.0.0.1", port, "SCREENER", timeout_s)


def write_object(
    folder: Path, number: int = 1, sop_class_uid: str = CT_IMAGE, **values: Any
) -> DeliverableObject:
    """A small object of any class; what is in it does not matter to the sending."""
    uid = f"{SERIES_UID}.{number}"
    content = ct_bytes(number, **({"SOPClassUID": sop_class_uid} | values))
    path = folder / f"object-{number}.dcm"
    path.write_bytes(encode_file_meta(FileMeta(sop_class_uid, uid, EXPLICIT)) + content)
    kind = {REPORT: ResultKind.STRUCTURED_REPORT, SEGMENTATION: ResultKind.SEGMENTATION}.get(
        sop_class_uid, ResultKind.OVERLAY
    )
    return DeliverableObject(kind, sop_class_uid, uid, path)


def data_set_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


@contextmanager
def scripted(
    *contexts: tuple[str, list[str]], ae_title: str = "TESTPACS", **handlers: Callable[..., Any]
) -> Iterator[int]:
    """Run an SCP with handlers by event name; gives its port."""
    ae = AE(ae_title)
    ae.require_called_aet = True
    for abstract_syntax, transfer_syntaxes in contexts:
        ae.add_supported_context(abstract_syntax, transfer_syntaxes)
    bound = [(getattr(evt, name), handler) for name, handler in handlers.items()]
    server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=bound)
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        ae.shutdown()


SYNTAXES = [EXPLICIT, IMPLICIT]
STORE_CT = (CT_IMAGE, [EXPLICIT, IMPLICIT])


def settings_for(folder: Path, port: int, ae_title: str = "TESTPACS", **changes: Any) -> Settings:
    """Settings with one destination and the peer that it reports as."""
    destination = {
        "name": "pacs",
        "ae_title": ae_title,
        "host": "127.0.0.1",
        "port": port,
        "confirm": "commitment",
        "timeout_s": PATIENCE_S,
    }
    return Settings(
        data_dir=folder / "data",
        node={"port": free_port()},
        peers=({"ae_title": ae_title, "addresses": ("127.0.0.1",), "allow_plain": True},),
        spool={"reserve_bytes": 0},
        delivery={"first_retry_s": 0.01, "retry_cap_s": 0.01},
        destinations=(destination | changes,),
    )


def call(url: str, method: str, content: object = None) -> Any:
    request = urllib.request.Request(url, json.dumps(content).encode(), method=method)  # noqa: S310 - Orthanc
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
        return json.loads(answer.read() or b"null")
