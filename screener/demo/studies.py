"""The studies that the demo sends: four synthetic ones, or one folder of somebody's own."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from models.phantom import Kernel, Pattern, make_head, make_phantom, typical_spec
from screener.assemble.folder import read_folder
from screener.assemble.part10 import open_data_set
from screener.daemon.site import utc_now
from screener.demo.series_writer import SyntheticIdentity, write_series
from screener.errors import WrongUse
from screener.receive.part10 import FileMeta, encode_file_meta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from models.phantom import Phantom
    from screener.domain import SpooledInstance, SpooledStudy


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """One study on its way into the demo."""

    label: str  #: what it is, in a word that can name a folder
    study: SpooledStudy


def read_studies(folder: Path, work: Path) -> list[DemoStudy]:
    """Take the studies of somebody's own folder, as a scanner would send them.

    Parameters
    ----------
    folder
        Looked through with all its subfolders; left as it is.
    work
        Copies with a file meta of ours go here, the data sets byte for byte.

    Raises
    ------
    WrongUse
        The folder does not exist or holds no DICOM image.
    """
    if not folder.is_dir():
        raise WrongUse(f"{folder} is no folder; give one that holds DICOM files")
    studies = read_folder(folder, utc_now()).studies
    if not studies:
        raise WrongUse(f"{folder} holds no DICOM image; give a folder with a study")
    return [
        DemoStudy(f"study-{number}", _sendable(study, work / f"study-{number}"))
        for number, study in enumerate(studies, start=1)
    ]


def _sendable(study: SpooledStudy, work: Path) -> SpooledStudy:
    """Copy the files of a study so that each has the file meta that a C-STORE needs."""
    work.mkdir(parents=True)
    instances = tuple(
        _copy(one, work / f"{number}.dcm") for number, one in enumerate(study.instances)
    )
    return replace(study, instances=instances)


def _copy(instance: SpooledInstance, target: Path) -> SpooledInstance:
    # Published series exist whose SOP Instance UID is empty on every slice. A C-STORE must name
    # one, so that all slices of such a series go out under one and the same UID.
    uid = instance.sop_instance_uid or derived_uid(instance.series_instance_uid)
    meta = FileMeta(instance.sop_class_uid, uid, instance.transfer_syntax_uid)
    with open_data_set(instance.path) as (data_set, _), target.open("wb") as copy:
        copy.write(encode_file_meta(meta))
        shutil.copyfileobj(data_set, copy)
    return replace(instance, sop_instance_uid=uid, path=target)


def derived_uid(text: str) -> str:
    """Give a UID that is always the same for a text (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, text).int}"


@dataclass(frozen=True, slots=True)
class _Recipe:
    label: str
    seed: int
    make: Callable[[int], Phantom]
    body_part: str = "CHEST"


def _chest(pattern: Pattern, kernel: Kernel) -> Callable[[int], Phantom]:
    def make(seed: int) -> Phantom:
        return make_phantom(replace(typical_spec(seed, pattern), **GRID, kernel=kernel))

    return make


#: Grid of the demo's series: quick to make, and still 512 pixels wide as on a scanner.
GRID: dict[str, Any] = {"n_slices": 64, "slice_spacing_mm": 5.0}

RECIPES = (
    _Recipe("covid-19-like", 101, _chest(Pattern.COVID_19, Kernel.STANDARD)),
    _Recipe(
        "cap-like",
        102,
        _chest(Pattern.COMMUNITY_ACQUIRED_PNEUMONIA, Kernel.SOFT),
    ),
    _Recipe("normal", 103, _chest(Pattern.NORMAL, Kernel.LUNG)),
    _Recipe("head", 104, make_head, body_part="HEAD"),
)


def make_studies(folder: Path, track: Callable[..., Iterable[_Recipe]]) -> list[DemoStudy]:
    """Make the four synthetic studies of the demo and write them as DICOM."""
    studies = []
    for recipe in track(RECIPES, description="making synthetic CT"):
        target = folder / recipe.label
        target.mkdir(parents=True)
        identity = SyntheticIdentity(
            name=recipe.label, study_at=utc_now(), body_part=recipe.body_part
        )
        write_series(recipe.make(recipe.seed), target, identity)
        (study,) = read_folder(target, utc_now()).studies
        studies.append(DemoStudy(recipe.label, study))
    return studies
