"""Which proposed presentation contexts are taken: a table look-up.

References: DICOM PS3.8 9.3.3.2 (contexts), PS3.7 D.3.3.4 (roles).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from screener.receive.commitment import STORAGE_COMMITMENT_SOP_CLASS_UID
from screener.receive.contexts import (
    ACCEPTED_CLASSES,
    ACCEPTED_SYNTAXES,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION_SOP_CLASS_UID,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from screener.receive.upper_layer import AssociationRequest, ProposedContext

#: Results of a context (PS3.8 Table 9-18).
ACCEPTED = 0
_ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
_TRANSFER_SYNTAXES_NOT_SUPPORTED = 4

_UNCOMPRESSED = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_STORED = tuple(syntax.transfer_syntax_uid for syntax in ACCEPTED_SYNTAXES)

#: SOP classes that are served, each with its transfer syntaxes in the order of our preference.
SERVED: Mapping[str, tuple[str, ...]] = {
    VERIFICATION_SOP_CLASS_UID: _UNCOMPRESSED,
    STORAGE_COMMITMENT_SOP_CLASS_UID: _UNCOMPRESSED,
    **{accepted.sop_class_uid: _STORED for accepted in ACCEPTED_CLASSES},
}

#: SOP classes whose requestor may be SCU and SCP: an archive that reports a storage commitment
#: proposes itself as the SCP, against the default.
_NEGOTIABLE_ROLES = frozenset({STORAGE_COMMITMENT_SOP_CLASS_UID})


@dataclass(frozen=True, slots=True)
class ContextAnswer:
    """What becomes of one proposed context."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str  #: chosen; of a context that is not taken it says nothing
    result: int
    roles: tuple[bool, bool] | None = None  #: of the requestor, where they were negotiated

    @property
    def is_accepted(self) -> bool:
        """Whether messages may come on it."""
        return self.result == ACCEPTED


def negotiate(request: AssociationRequest) -> tuple[ContextAnswer, ...]:
    """Answer every proposed context."""
    return tuple(_answer(request, context) for context in request.contexts)


def _answer(request: AssociationRequest, context: ProposedContext) -> ContextAnswer:
    uid = context.abstract_syntax
    first = context.transfer_syntaxes[0] if context.transfer_syntaxes else ""
    served = SERVED.get(uid)
    if served is None:
        return ContextAnswer(context.context_id, uid, first, _ABSTRACT_SYNTAX_NOT_SUPPORTED)
    chosen = next((syntax for syntax in served if syntax in context.transfer_syntaxes), None)
    if chosen is None:
        return ContextAnswer(context.context_id, uid, first, _TRANSFER_SYNTAXES_NOT_SUPPORTED)
    roles = request.roles.get(uid) if uid in _NEGOTIABLE_ROLES else None
    return ContextAnswer(context.context_id, uid, chosen, ACCEPTED, roles)
