"""Values of one patient that must not appear outside database-free places: spool, results, PACS."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

import pydicom

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME = "KANARIENVOGEL^NEVERLOGGED"
PATIENT_ID = "KANARIENID-7"
BIRTH_DATE = "18930417"
#: One of these anywhere else is a leak.
TOKENS = (b"KANARIEN", b"NEVERLOGGED", BIRTH_DATE.encode())

#: The body of a message as kombu puts it into Redis.
_BODY = re.compile(rb'body\\?":\s*\\?"([A-Za-z0-9+/=]{8,})')


def mark(files: Iterable[Path]) -> None:
    """Write the canary into every attribute of a slice that can name a patient."""
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.PatientName = dataset.ReferringPhysicianName = dataset.OperatorsName = NAME
        dataset.PatientID = dataset.AccessionNumber = dataset.StudyID = PATIENT_ID
        dataset.OtherPatientIDs = PATIENT_ID
        dataset.PatientBirthDate = BIRTH_DATE
        dataset.PatientComments = dataset.StudyDescription = dataset.SeriesDescription = NAME
        dataset.save_as(file)


def leaks(folder: Path, *, without: Iterable[Path]) -> list[str]:
    """Name every file below a folder that holds a token, as it is or inside a broker's message."""
    allowed = tuple(without)
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(one == path or one in path.parents for one in allowed):
            continue
        content = path.read_bytes()
        parts = [content, *(base64.b64decode(body + b"==") for body in _BODY.findall(content))]
        if any(token in part for token in TOKENS for part in parts):
            found.append(str(path.relative_to(folder)))
    return found
