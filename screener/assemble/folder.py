"""Find the studies in a folder of files, for ``screener screen DIR``.

Reads what is there and copies nothing. Every file ends in a study or in ``ignored`` with the
reason, so that nobody wonders where a file went.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from screener.assemble.part10 import (
    MAX_FILE_BYTES,
    PARSE_ERRORS,
    UnreadableFile,
    digest_data_set,
    quiet_parser,
    read_part10_header,
)
from screener.assemble.values import Attributes
from screener.domain import SpooledInstance, SpooledStudy
from screener.errors import WrongUse

#: Media Storage Directory Storage (PS3.4 Annex I): DICOMDIR, an index and no instance.
_DICOMDIR_SOP_CLASS_UID = "1.2.840.10008.1.3.10"
_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "DirectoryRecordSequence",
)


@dataclass(frozen=True, slots=True)
class FolderContents:
    """What a folder holds."""

    studies: tuple[SpooledStudy, ...]  #: largest first
    n_files: int
    ignored: tuple[tuple[Path, str], ...]  #: path and why it is no instance

    def explain_emptiness(self) -> str:
        """Say in one sentence why there is no study, with the commonest reasons."""
        counts = Counter(reason for _, reason in self.ignored)
        reasons = "; ".join(f"{reason} ({n})" for reason, n in counts.most_common(3))
        return f"no study in {self.n_files} files" + (f": {reasons}" if reasons else "")


@dataclass(frozen=True, slots=True)
class FolderLimits:
    """How much of a folder is read."""

    max_file_bytes: int = MAX_FILE_BYTES
    max_files: int = 50_000


def read_folder(
    path: Path, received_at: datetime, limits: FolderLimits | None = None
) -> FolderContents:
    """List the DICOM instances under a folder, or in one file, grouped by study.

    Instances with the same content count once: the copies are listed as ignored. Symbolic links
    that lead out of the folder are not followed.

    Parameters
    ----------
    path
        A folder, read recursively with any file names, or a single file.
    received_at
        Stands as the time of arrival of every instance, aware.
    limits
        Bounds, the defaults if None.

    Raises
    ------
    WrongUse
        No such folder, or more files than allowed.
    """
    limits = limits or FolderLimits()
    if not path.exists():
        raise WrongUse(f"{path} does not exist; name a folder with DICOM files")
    files = _list_files(path, limits)
    ignored: list[tuple[Path, str]] = []
    by_study: dict[str, dict[tuple[str, str], SpooledInstance]] = defaultdict(dict)
    for file in files:
        try:
            instance = _read_instance(file, received_at, limits)
        except UnreadableFile as error:
            ignored.append((file, str(error)))
            continue
        same_study = by_study[instance.study_instance_uid]
        identity = (instance.sop_instance_uid, instance.content_digest)
        if identity in same_study:
            ignored.append((file, f"same content as {same_study[identity].path.name}"))
        else:
            same_study[identity] = instance
    studies = [SpooledStudy(uid, tuple(held.values())) for uid, held in by_study.items()]
    studies.sort(key=lambda study: (-len(study.instances), study.study_instance_uid))
    return FolderContents(tuple(studies), len(files), tuple(ignored))


def _list_files(path: Path, limits: FolderLimits) -> list[Path]:
    files = sorted(_walk(path)) if path.is_dir() else [path]
    if len(files) > limits.max_files:
        raise WrongUse(f"{path} holds more than {limits.max_files} files; name a smaller folder")
    return files


def _walk(folder: Path) -> Iterator[Path]:
    root = folder.resolve()
    for file in folder.rglob("*"):
        if file.is_file() and file.resolve().is_relative_to(root):
            yield file


def _read_instance(file: Path, received_at: datetime, limits: FolderLimits) -> SpooledInstance:
    try:
        n_bytes = file.stat().st_size
        if n_bytes > limits.max_file_bytes:
            raise UnreadableFile(f"{n_bytes} bytes are more than the {limits.max_file_bytes} set")
        header = read_part10_header(file, _KEYWORDS)
        digest = digest_data_set(file)
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}") from error
    dataset = header.dataset
    sop_class_uid = _uid(dataset, "SOPClassUID")
    if sop_class_uid == _DICOMDIR_SOP_CLASS_UID or "DirectoryRecordSequence" in dataset:
        raise UnreadableFile("a DICOMDIR: an index, no instance")
    study_instance_uid = _uid(dataset, "StudyInstanceUID")
    series_instance_uid = _uid(dataset, "SeriesInstanceUID")
    if not study_instance_uid or not series_instance_uid:
        raise UnreadableFile("no Study or Series Instance UID")
    return SpooledInstance(
        study_instance_uid=study_instance_uid,
        series_instance_uid=series_instance_uid,
        sop_instance_uid=_uid(dataset, "SOPInstanceUID"),
        sop_class_uid=sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        content_digest=digest,
        path=file,
        received_at=received_at,
    )


def _uid(dataset: Attributes, keyword: str) -> str:
    """Give a UID as it stands, empty when absent; several values are refused."""
    try:
        with quiet_parser():
            value = dataset.get(keyword)
    except PARSE_ERRORS as error:
        raise UnreadableFile(f"{keyword} cannot be read") from error
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnreadableFile(f"{keyword} has several values")
    return value.strip("\0 ")
