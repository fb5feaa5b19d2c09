"""A sender that can misbehave: associates, stores raw bytes under any UID."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any

from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from screener.deliver.association import rejection_of
from screener.receive.guard import configure_library
from tests.integration.conftest import PATIENCE_S
from tests.receive_factories import (
    CT_IMAGE,
    EXPLICIT,
    SERIES_UID,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pynetdicom.association import Association

    from tests.integration.conftest import RunningListener


# A sender that can misbehave must not be stopped by its own library.
configure_library()


def associate(
    node: RunningListener, *, calling: str = "CT1", called: str = "SCREENER", **options: Any
) -> Association:
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = PATIENCE_S
    ae.add_requested_context(CT_IMAGE, [EXPLICIT])
    return ae.associate("127.0.0.1", node.port, ae_title=called, **options)


def store(
    assoc: Association, content: bytes, uid: str = f"{SERIES_UID}.1", class_uid: str = CT_IMAGE
) -> int | None:
    """Send raw bytes under any UID, which a well-meaning library would refuse."""
    request: Any = C_STORE()
    request.MessageID = 1
    request.Priority = 2
    request.AffectedSOPClassUID = class_uid
    request.AffectedSOPInstanceUID = uid
    request.DataSet = io.BytesIO(content) if content else None
    assoc._reactor_checkpoint.clear()
    pause = threading.Event()
    while not assoc._is_paused:
        pause.wait(0.0005)
    assoc.dimse.send_msg(request, assoc.accepted_contexts[0].context_id or 1)
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    return None if answer is None else answer.Status  # type: ignore[union-attr]


def rejection_codes(assoc: Association) -> tuple[int | None, int | None, int | None]:
    """Give result, source and reason of an association that was rejected."""
    answer = rejection_of(assoc)
    assert answer is not None
    return answer.result, answer.result_source, answer.diagnostic


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())
