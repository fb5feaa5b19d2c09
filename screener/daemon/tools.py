"""Models, policy and options as the pipeline takes them, from the settings."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import ModelError
from models.manifest import MANIFEST_FILE
from models.registry import SHIPPED_MODELS, find_model, list_models, verify_model
from models.session import LungSegmenter, Provider, SliceClassifier
from screener.assemble import Decoders, DecodingRules
from screener.domain import ModelIdentity, ResultKind
from screener.errors import ModelFailure
from screener.journey import Tools
from screener.report import Charset, ContentQualification, ReportClass, ReportOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from models.manifest import Manifest
    from models.registry import ModelFolder
    from screener.screening_settings import ModelSettings
    from screener.settings import Settings

#: Batches at a time on a CPU, sharing its threads: more would hold more memory and gain little.
_MOST_LANES = 2
#: Slices in which lungs are looked for at a time, where lanes share a CPU: a slice takes no longer
#: in a batch of two than of eight, and the lane with the last batch is not waited for.
_MOST_IN_A_LANE = 2


@dataclass(frozen=True, slots=True)
class ModelVerdict:
    """Whether one model is the one that it should be."""

    name: str
    is_ok: bool
    detail: str  #: the digest, or what is wrong and how to mend it


def open_tools(settings: Settings) -> Tools:
    """Open the model sessions; refuse to start with a model that is not the pinned one.

    Raises
    ------
    ModelFailure
        A model is missing, changed, or does not open.
    """
    provider = Provider(settings.inference.provider)
    threads = settings.inference.threads or _cores()
    n_lanes = min(_MOST_LANES, threads) if provider is Provider.CPU else 1
    batch_size = settings.inference.batch_size
    try:
        lungs = _pinned(settings, settings.models.lungs)
        slices = _pinned(settings, settings.models.slices)
        segmenter = LungSegmenter(lungs, provider=provider, threads=threads // n_lanes)
        classifier = SliceClassifier(slices, provider=provider, threads=threads // n_lanes)
    except ModelError as error:
        raise ModelFailure(str(error)) from error
    return Tools(
        segmenter=segmenter,
        classifier=classifier,
        policy=settings.vote.policy(),
        decoding=DecodingRules(
            n_threads=settings.inference.decode_threads,
            batch_size=batch_size if n_lanes == 1 else min(batch_size, _MOST_IN_A_LANE),
            decode=Decoders(settings.inference.decode_threads),
        ),
        models=(_identity(segmenter), _identity(classifier)),
        n_lanes=n_lanes,
    )


def result_digest(settings: Settings) -> str:
    """sha256 over all that can change a result beside graphs, input and code.

    The settings that matter, and the manifests of both models: a threshold or a temperature that
    changes there changes results although the graph is the same.
    """
    try:
        folders = [find_model(pin.name, _root(settings)) for pin in _pins(settings)]
        manifests = [(folder.path / MANIFEST_FILE).read_bytes() for folder in folders]
    except ModelError as error:
        raise ModelFailure(str(error)) from error
    except OSError as error:
        raise ModelFailure(f"a model manifest cannot be read: {error.strerror}") from error
    return hashlib.sha256(b"\0".join([settings.result_digest.encode(), *manifests])).hexdigest()


def report_options(settings: Settings) -> ReportOptions:
    """Give what the site chose about its result objects: every kind that a destination wants."""
    wanted = {kind for entry in settings.destinations for kind in entry.kinds}
    default = ReportOptions()
    return ReportOptions(
        kinds=tuple(kind for kind in ResultKind if kind in wanted) or default.kinds,
        content_qualification=ContentQualification(settings.report.content_qualification),
        report_class=ReportClass(settings.report.sr_class),
        charset=Charset(settings.report.charset),
        institution_name=settings.report.institution_name,
        maximum_slice_groups=settings.report.maximum_slice_groups,
        n_key_slices=settings.report.key_slices,
        time_zone=settings.node.time_zone,
    )


def list_manifests(settings: Settings) -> list[Manifest]:
    """Give the manifests of all models that are installed."""
    try:
        return [folder.manifest for folder in list_models(_root(settings))]
    except ModelError as error:
        raise ModelFailure(str(error)) from error


def verify_models(
    settings: Settings, track: Callable[..., Iterable[ModelFolder]]
) -> list[ModelVerdict]:
    """Read the files of every installed model again; see ``verify_model_files``."""
    try:
        folders = list_models(_root(settings))
    except ModelError as error:
        raise ModelFailure(str(error)) from error
    return verify_model_files(settings, folders, track)


def verify_model_files(
    settings: Settings,
    folders: Iterable[ModelFolder],
    track: Callable[..., Iterable[ModelFolder]],
) -> list[ModelVerdict]:
    """Read the files of models again and compare them with their manifests and the settings."""
    pins = {pin.name: pin.sha256 or None for pin in (settings.models.lungs, settings.models.slices)}
    return [
        _verdict(folder, pins.get(folder.path.name) or pins.get(folder.manifest.name))
        for folder in track(folders, description="reading models")
    ]


def _verdict(folder: ModelFolder, pinned_sha256: str | None) -> ModelVerdict:
    try:
        digest = verify_model(folder, pinned_sha256=pinned_sha256)
    except ModelError as error:
        return ModelVerdict(folder.manifest.name, is_ok=False, detail=str(error))
    return ModelVerdict(folder.manifest.name, is_ok=True, detail=digest)


def _pins(settings: Settings) -> tuple[ModelSettings, ModelSettings]:
    return settings.models.lungs, settings.models.slices


def _pinned(settings: Settings, pin: ModelSettings) -> ModelFolder:
    folder = find_model(pin.name, _root(settings))
    verify_model(folder, pinned_sha256=pin.sha256 or None)
    return folder


def _identity(session: LungSegmenter | SliceClassifier) -> ModelIdentity:
    return ModelIdentity(
        name=session.manifest.name,
        version=session.manifest.version,
        task=session.manifest.task.value,
        digest=session.digest,
        provider=session.provider.actual.value,
        fallback_reason=session.provider.fallback_reason,
    )


def _root(settings: Settings) -> Path:
    return settings.models.root or SHIPPED_MODELS


def _cores() -> int:
    return len(os.sched_getaffinity(0))
