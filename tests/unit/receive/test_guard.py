"""The self-test of what we build on in pynetdicom: another library is refused before it receives.

Does not cover: reading and spooling over a socket (tests/integration/test_retrieve.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.transport import AssociationSocket

from screener.audit.registration import Registration
from screener.errors import ConfigError
from screener.receive.guard import check_library
from screener.receive.handlers import ReceiverHooks
from screener.receive.spool import Spool
from screener.receive.suboperations import SubOperationReceiver
from tests.audit_factories import NOW


def without_method(patch: pytest.MonkeyPatch) -> None:
    patch.delattr(DIMSEServiceProvider, "receive_primitive")


def other_parameters(patch: pytest.MonkeyPatch) -> None:
    def recv(self: AssociationSocket, nr_bytes: int, timeout: float) -> bytearray:
        raise AssertionError((self, nr_bytes, timeout))

    patch.setattr(AssociationSocket, "recv", recv)


def data_kept_elsewhere(patch: pytest.MonkeyPatch) -> None:
    def decode_msg(self: DIMSEMessage, primitive: object, assoc: object = None) -> bool:
        return (self, primitive, assoc) is None

    patch.setattr(DIMSEMessage, "decode_msg", decode_msg)


def test_pinned_library_passes() -> None:
    """What is installed is what we know."""
    check_library()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_method, "no DIMSEServiceProvider.receive_primitive as we know it"),
        (other_parameters, "no AssociationSocket.recv as we know it"),
        (data_kept_elsewhere, "keeps data sets elsewhere"),
    ],
)
def test_other_library_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: Callable[[pytest.MonkeyPatch], None],
    message: str,
) -> None:
    """A name that is gone, other parameters, other doings: each is found, and nothing receives."""
    hooks = ReceiverHooks(lambda _: Registration.NEW, lambda _: None, lambda: NOW)
    spool = Spool(tmp_path, 0)
    change(monkeypatch)
    with pytest.raises(ConfigError, match=message):
        check_library()
    with pytest.raises(ConfigError, match=message):
        SubOperationReceiver("SCREENER", spool, hooks, b"salt")
