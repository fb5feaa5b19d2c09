"""The error tree. Every error a user or a sender can meet has a name here.

Foreign errors are translated at the door where they appear, with their cause. The branch says
whether trying again can help (ADR 0004).

.. code-block:: text

    ScreenerError
    ├── ConfigError                  the operator must fix it; exit code 2
    ├── WrongUse                     the command line was used wrongly; exit code 2
    ├── RefusedInstance              carries the C-STORE status we answer
    ├── DemoFailed                   the demo could not be carried through
    ├── NotAnalysable                a result, not a failure: reported as "not analysed, because"
    ├── Permanent                    recorded, never retried
    │   ├── UnreadablePixels
    │   │   └── UnsafePixels         decoding took too much, and its process was ended
    │   ├── ModelFailure
    │   ├── ReportError
    │   ├── StudyNotRetrieved        the spool does not have a study, and nobody gave it back
    │   ├── SpoolDamaged             a file is not what was received, and is not screened
    │   ├── CheckpointsUnreadable    the trail cannot be proved against them
    │   ├── LostClaim                somebody else holds the run now; our result is discarded
    │   └── DestinationRefused       carries the status we got
    └── Transient                    tried again with back-off
        ├── DestinationUnavailable
        ├── DatabaseUnavailable
        ├── StepHung                 a step of a run took too long, and its process was ended
        └── SpoolFull
"""

from screener.domain import NotAnalysedReason


class ScreenerError(Exception):
    """Base of every error the screener raises on purpose."""


class ConfigError(ScreenerError):
    """A setting is missing or wrong; the text names the key, the value and the mend."""


class WrongUse(ScreenerError):
    """A command was given something it cannot work on; the text says what would work."""


class DemoFailed(ScreenerError):
    """The demo could not be carried through; the text says where to look."""


class RefusedInstance(ScreenerError):
    """An instance is refused with a C-STORE status.

    Parameters
    ----------
    status
        DIMSE status to answer, a constant of :mod:`screener.receive.status`.
    comment
        Error Comment (0000,0902): fixed text of at most 64 characters, never a value of the
        data set.
    """

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(f"0x{status:04X} {comment}")
        self.status = status
        self.comment = comment


class NotAnalysable(ScreenerError):
    """The study cannot be screened; the reason becomes the result (design 3.3).

    Parameters
    ----------
    reason
        The named reason that stands in the report, the database and the exit code.
    detail
        One sentence for people, with numbers and units and without names of people.
    """

    def __init__(self, reason: NotAnalysedReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class Permanent(ScreenerError):
    """Trying again cannot help."""


class UnreadablePixels(Permanent):
    """Pixel data cannot be decoded to Hounsfield units."""


class UnsafePixels(UnreadablePixels):
    """Decoding took more time or memory than a slice may, or ended the process that did it."""


class ModelFailure(Permanent):
    """A model is missing, changed, or gave an output that cannot be."""


class ReportError(Permanent):
    """A result object cannot be built from this evidence."""


class StudyNotRetrieved(Permanent):
    """Files of a study are gone, and no node gave all of them back; the text says which can."""


class SpoolDamaged(Permanent):
    """Files on our own disk are gone or are not what was received; the text says the mend."""


class CheckpointsUnreadable(Permanent):
    """The file of checkpoints is there and cannot be read; the text says which."""


class LostClaim(Permanent):
    """The lease of a run or delivery passed to somebody else; the late result is discarded."""


class DestinationRefused(Permanent):
    """A destination answered a status that a retry cannot change.

    Parameters
    ----------
    destination
        Name of the destination in the settings.
    detail
        What was refused and what to do about it.
    status
        DIMSE or HTTP status answered, None where the association itself was refused.
    """

    def __init__(self, destination: str, detail: str, status: int | None = None) -> None:
        super().__init__(f"{destination}: {detail}")
        self.destination = destination
        self.status = status


class Transient(ScreenerError):
    """Trying again later can help."""


class DestinationUnavailable(Transient):
    """A destination cannot be reached, or is out of resources for now.

    Parameters
    ----------
    text
        What happened, and what to look at.
    retry_after_s
        Seconds that the destination asked to be left alone, where it did.
    """

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class DatabaseUnavailable(Transient):
    """The audit database cannot be reached or does not accept writes."""


class DamagedRow(DatabaseUnavailable):
    """A row of the audit database was edited so that the database itself cannot work with it."""


class StepHung(Transient):
    """A step of a run took longer than it may; the process that did it is ended."""


class SpoolFull(Transient):
    """Storing would go below the disk reserve, or the disk refused the write."""
