"""Get series back from a DICOMweb service: WADO-RS, as they are stored there (PS3.18 10.4).

A retrieval is complete or an error, as in `retrieve.py`: the instances that come are counted
against those that the service lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from screener.deliver.multipart import BrokenMultipart, MultipartReader
from screener.deliver.qido import SERIES, instances_of, resource
from screener.deliver.web import connected
from screener.deliver.web_errors import describe, not_multipart
from screener.errors import DestinationRefused, RefusedInstance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from screener.deliver.web import WebSession
    from screener.domain import WebNode

#: Instances as Part 10 files, each in the transfer syntax that it is stored in.
ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'

_DICOM = "application/dicom"


class InstanceReceiver(Protocol):
    """Takes what a service sends back."""

    def take(self, chunks: Iterator[bytes]) -> None:
        """Keep one instance, a Part 10 file in pieces.

        Raises
        ------
        RefusedInstance
            It cannot be kept.
        """


def get_series(
    node: WebNode,
    study_instance_uid: str,
    series_instance_uids: Sequence[str],
    receiver: InstanceReceiver,
) -> int:
    """Get series by WADO-RS; gives the number of instances that came.

    Raises
    ------
    DestinationUnavailable
        The service cannot be asked now, or broke off.
    DestinationRefused
        It did not give everything, or gave what cannot be kept.
    """
    n_instances = 0
    with connected(node) as session:
        for uid in series_instance_uids:
            listed = instances_of(session, study_instance_uid, uid)
            n_given = _take_series(session, resource(SERIES, study_instance_uid, uid), receiver)
            if n_given < len(listed):
                text = f"{describe(node)} gave {n_given} of {len(listed)} instances of a series"
                raise DestinationRefused(node.name, text)
            n_instances += n_given
    return n_instances


def _take_series(session: WebSession, path: str, receiver: InstanceReceiver) -> int:
    n_instances = 0
    refusals: list[RefusedInstance] = []
    with session.stream(path, ACCEPT) as (content_type, chunks):
        try:
            for content in MultipartReader(content_type, chunks).parts(_DICOM):
                try:
                    receiver.take(content)
                except RefusedInstance as refusal:
                    refusals.append(refusal)
                n_instances += 1
        except BrokenMultipart as error:
            words = f"answered what is no complete list of instances: {error}"
            raise not_multipart(session.node, words) from error
    if refusals:
        first = refusals[0]
        text = f"{len(refusals)} instances of {describe(session.node)} cannot be kept: {first}"
        raise DestinationRefused(session.node.name, text, first.status)
    return n_instances
