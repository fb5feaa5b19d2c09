"""Get back from the PACS what the spool no longer has.

Retrieved instances go the way of received ones: the same spool, the same rows. The same content
mends its missing file; a study that nobody knew is opened, and completed when all of it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from screener.audit.ledger import complete_study, load_study
from screener.audit.queries import study_status
from screener.daemon.listening import patient_id_salt, register_arrival
from screener.daemon.site import Site, archive_of, dimse_node_of, utc_now, web_node_of
from screener.daemon.stored_files import damaged_inputs
from screener.deliver import retrieve, wado
from screener.destinations import WebDestinationSettings
from screener.domain import CompletionReason, StudyState
from screener.errors import StudyNotRetrieved
from screener.logs import get_log
from screener.receive.handlers import ReceiverHooks
from screener.receive.retrieved import PartReceiver
from screener.receive.spool import Spool
from screener.receive.suboperations import RETRIEVED_CONTEXTS, SubOperationReceiver

if TYPE_CHECKING:
    from screener.settings import DestinationSettings

#: Modalities of series that can be screened, or refused by name; the rest is not asked back.
IMAGE_MODALITIES = frozenset({"CT", "CR", "DX"})


def bring_back(site: Site, study_instance_uid: str) -> None:
    """Retrieve a study that is unknown or lacks files; do nothing where all is there.

    Without a destination to retrieve from an unknown study stays unknown.

    Raises
    ------
    StudyNotRetrieved
        Files are gone and no destination says how to retrieve them, or not all came back.
    DestinationUnavailable, DestinationRefused
        The destination cannot be asked, or does not give the study.
    """
    is_known = study_status(site.database, study_instance_uid) is not None
    n_missing = _n_missing(site, study_instance_uid) if is_known else 0
    if is_known and not n_missing:
        return
    entry = next((one for one in site.settings.destinations if one.retrieve != "none"), None)
    if entry is None:
        if is_known:
            raise StudyNotRetrieved(
                f"study {study_instance_uid}: {n_missing} files are no longer in the spool; set "
                "`retrieve` for the destination that has them"
            )
        return
    n_instances = _retrieve(site, entry, study_instance_uid)
    get_log().info("study_retrieved", source=entry.name, n_instances=n_instances)
    if is_known:
        _check_whole(site, entry, study_instance_uid)
    else:
        _complete(site, entry, study_instance_uid, n_instances)


def _n_missing(site: Site, study_instance_uid: str) -> int:
    study = load_study(site.database, study_instance_uid)
    return len(damaged_inputs(study))


def _retrieve(site: Site, entry: DestinationSettings, study_instance_uid: str) -> int:
    archive = archive_of(site.settings, entry)
    series = [
        series_instance_uid
        for series_instance_uid, modality in archive.find_series(study_instance_uid)
        if not modality or modality in IMAGE_MODALITIES
    ]
    if not series:
        raise StudyNotRetrieved(
            f"study {study_instance_uid}: {entry.name} has no CT, CR or DX series of it either"
        )
    settings = site.settings
    if isinstance(entry, WebDestinationSettings):
        parts = PartReceiver(entry.name, _spool(site), _hooks(site), patient_id_salt(settings))
        return wado.get_series(web_node_of(entry), study_instance_uid, series, parts)
    node = dimse_node_of(settings, entry)
    if entry.retrieve == "move":
        return retrieve.move_series(node, study_instance_uid, series, settings.node.ae_title)
    receiver = SubOperationReceiver(
        settings.node.ae_title, _spool(site), _hooks(site), patient_id_salt(settings)
    )
    try:
        return retrieve.get_series(node, study_instance_uid, series, RETRIEVED_CONTEXTS, receiver)
    finally:
        receiver.close()


def _spool(site: Site) -> Spool:
    return Spool(site.settings.spool_path, site.settings.spool.reserve_bytes)


def _hooks(site: Site) -> ReceiverHooks:
    return ReceiverHooks(
        register=lambda arrival: register_arrival(site, arrival),
        observe=lambda notice: get_log().warning("instance_refused", reason=notice.reason),
        now=utc_now,
    )


def _check_whole(site: Site, entry: DestinationSettings, study_instance_uid: str) -> None:
    n_missing = _n_missing(site, study_instance_uid)
    if n_missing:
        raise StudyNotRetrieved(
            f"study {study_instance_uid}: {n_missing} files are still missing; {entry.name} gave "
            "other content, or fewer instances than came here first"
        )


def _complete(
    site: Site, entry: DestinationSettings, study_instance_uid: str, n_instances: int
) -> None:
    complete_study(
        site.database,
        study_instance_uid,
        StudyState.VERIFIED,
        CompletionReason.FORCED,
        utc_now(),
        detail=f"retrieved from {entry.name}: {n_instances} instances, all that it has",
    )
