"""Frozen values that cross the steps of the journey.

No data sets and no rows: references, paths, numbers and arrays. Arrays are ordered
``(slices, rows, columns)``, slices from caudal to cranial; spacings stand in the same order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # NumPy too: the listener shares these values and needs no arrays
    from datetime import datetime
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

#: HU volume, ``(slices, rows, columns)``, Hounsfield units.
HuArray: TypeAlias = "NDArray[np.int16]"
#: Lung labels, ``(slices, rows, columns)``: 0 background, 1 right lung, 2 left lung.
LabelArray: TypeAlias = "NDArray[np.uint8]"

RIGHT_LUNG = 1
LEFT_LUNG = 2


# ── receive ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SpooledInstance:
    """One SOP Instance kept as received; identified by UID *and* content digest (design 3.1)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    content_digest: str  #: of the encoded data set as received (`digest`)
    path: Path  #: DICOM Part 10 file
    received_at: datetime
    calling_ae_title: str | None = None  #: None for files read from a folder


@dataclass(frozen=True, slots=True)
class SpooledStudy:
    """All instances of one study that one run screens."""

    study_instance_uid: str
    instances: tuple[SpooledInstance, ...]

    @property
    def input_digest(self) -> str:
        """sha256 over the sorted content digests: names the input set of a run."""
        digests = sorted(instance.content_digest for instance in self.instances)
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


class QuarantineReason(StrEnum):
    """Why an instance is kept and shown but takes no part in a screening."""

    PIXELS_TOO_SHORT = "pixels-too-short"  #: fewer bytes than rows, columns and frames ask for
    PIXELS_TOO_LONG = "pixels-too-long"  #: more than one padding byte beyond
    IMPOSSIBLE_SIZE = "impossible-size"  #: rows, columns or frames out of range or of another type
    IMPOSSIBLE_PIXELS = "impossible-pixels"  #: bits, samples or interpretation that no CT has
    BROKEN_FRAGMENTS = "broken-fragments"  #: encapsulated pixels without end, or too many of them
    NO_PATIENT_ID = "no-patient-id"  #: nobody could tell whose study it is
    SENT_BY_ANOTHER = "sent-by-another"  #: a known instance with other content, of another sender
    PIXELS_UNSAFE = "pixels-unsafe"  #: decoding took too much time or memory
    IMPOSSIBLE_VALUES = "impossible-values"  #: what pixels are rescaled or placed with is no number
    SERIES_IN_TWO_STUDIES = "series-in-two-studies"  #: its series belongs to another study


class DefectCode(StrEnum):
    """What can be wrong with a source that is screened all the same."""

    SHARED_SOP_INSTANCE_UID = "shared-sop-instance-uid"  #: several contents under one UID
    NON_CONFORMANT_UID = "non-conformant-uid"  #: a UID breaks PS3.5 9.1, for example UUID text
    MISSING_ATTRIBUTE = "missing-attribute"  #: a Type 1 or 2 attribute is absent
    EMPTY_STUDY_DATE = "empty-study-date"
    SLICE_GAP = "slice-gap"  #: slices are missing between neighbours
    DUPLICATE_POSITION = "duplicate-position"  #: several slices at one position; the newest is used
    IRREGULAR_SPACING = "irregular-spacing"
    GANTRY_TILT = "gantry-tilt"
    LOSSY_COMPRESSION = "lossy-compression"
    PIXEL_PADDING = "pixel-padding"  #: padding values were replaced by air
    EXCLUDED_INSTANCES = "excluded-instances"  #: instances of the series that are no axial slice
    UNREADABLE_INSTANCES = "unreadable-instances"
    THICK_SLICES = "thick-slices"  #: spacing beyond what the models were trained on
    SEVERAL_PATIENTS = "several-patients"


@dataclass(frozen=True, slots=True)
class SourceDefect:
    """One thing that is wrong with the source, said in the report."""

    code: DefectCode
    detail: str  #: one sentence with counts and units, no names of people
    n_instances: int = 0

    def __str__(self) -> str:
        return f"{self.code.value}: {self.detail}"


# ── assemble ─────────────────────────────────────────────────────────────────────────────────


class NotAnalysedReason(StrEnum):
    """Why a study has no decision. Each is a result and is reported (design 3.3)."""

    NO_IMAGES = "no-images"  #: no instance with pixels that we know
    UNSUPPORTED_MODALITY = "unsupported-modality"  #: radiograph, MR, ...
    LOCALIZER_ONLY = "localizer-only"  #: topogram or scout
    NOT_AXIAL = "not-axial"  #: only coronal, sagittal or oblique reformats
    DERIVED_ONLY = "derived-only"  #: secondary or derived images only
    TOO_FEW_SLICES = "too-few-slices"
    TOO_LITTLE_COVERAGE = "too-little-coverage"
    BROKEN_GEOMETRY = "broken-geometry"  #: no position, orientation or spacing; mixed grids
    GANTRY_TILTED = "gantry-tilted"
    UNREADABLE_PIXELS = "unreadable-pixels"
    NOT_A_CHEST = "not-a-chest"  #: head, abdomen, phantom: no two lungs in it
    LUNGS_INCOMPLETE = "lungs-incomplete"  #: lungs only partly covered
    CONFLICTING_PATIENTS = "conflicting-patients"


@dataclass(frozen=True, slots=True)
class SliceSource:
    """Where one slice of a volume comes from."""

    instance: SpooledInstance
    frame_number: int | None  #: from 1, None in single-frame instances
    position_mm: tuple[float, float, float]  #: Image Position (Patient), x y z
    orientation: tuple[float, float, float, float, float, float]  #: row then column cosines
    pixel_spacing_mm: tuple[float, float]  #: between rows, between columns
    rows: int
    columns: int
    location_mm: float  #: along the slice normal, increasing towards the head
    slice_thickness_mm: float | None
    instance_number: int | None


@dataclass(frozen=True, slots=True)
class SeriesCandidate:
    """One series as the selection saw it."""

    series_instance_uid: str
    modality: str
    n_instances: int
    n_slices: int  #: axial slices that could be used
    score: float  #: higher is better; 0 for a refused series
    reasons: tuple[str, ...]  #: why it scored as it did, or why it lost
    refusal: NotAnalysedReason | None


@dataclass(frozen=True, slots=True)
class SeriesRanking:
    """All series of a study, best first; stored with the run (design 3.3)."""

    candidates: tuple[SeriesCandidate, ...]
    selected_series_instance_uid: str | None


@dataclass(frozen=True, slots=True)
class SeriesGeometry:
    """The grid of a series from its header values."""

    n_slices: int
    slice_spacing_mm: float  #: median distance between neighbours
    coverage_mm: float  #: from the first to the last slice centre
    largest_gap_mm: float
    n_missing_slices: int  #: estimated from gaps
    n_duplicate_positions: int
    tilt_degrees: float  #: angle between the slice normal and the patient axis
    is_regular: bool


@dataclass(frozen=True, slots=True)
class Volume:
    """A decoded series, slices from caudal to cranial."""

    series_instance_uid: str
    frame_of_reference_uid: str | None
    volume_hu: HuArray = field(repr=False)  #: (slices, rows, columns)
    spacing_mm: tuple[float, float, float]
    slices: tuple[SliceSource, ...] = field(repr=False)  #: one per slice, same order
    geometry: SeriesGeometry


@dataclass(frozen=True, slots=True)
class Preview:
    """One image of a study that was not analysed, for people to see what came."""

    image_hu: NDArray[np.int16] = field(repr=False)  #: (rows, columns)
    pixel_spacing_mm: tuple[float, float] | None  #: between rows, between columns
    caption: str  #: which image it is, without identity


# ── segment, classify, vote ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class LungMask:
    """The two lungs of a volume."""

    labels: LabelArray = field(repr=False)  #: (slices, rows, columns), 1 right, 2 left
    right_volume_ml: float
    left_volume_ml: float

    @property
    def lung_slices(self) -> NDArray[np.int64]:
        """Indices of the slices that contain lung."""
        import numpy as np  # noqa: PLC0415 - who has labels has imported it

        return np.flatnonzero(self.labels.any(axis=(1, 2)))


@dataclass(frozen=True, slots=True)
class LesionMaps:
    """Where on each classified slice the classifier saw something, on a coarse grid."""

    #: (n, 4): row0, column0, row1, column1 as pixel edges of the stored slice, upper exclusive
    boxes: NDArray[np.float32] = field(repr=False)
    #: (n, map rows, map columns), 0 to 1, as stored; each map spans exactly its box
    probabilities: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SliceProbabilities:
    """What the classifier said of each lung-bearing slice."""

    class_names: tuple[str, ...]
    slice_indices: NDArray[np.int64]  #: (n,), indices into the volume
    #: (n, classes), calibrated, rows sum to 1
    probabilities: NDArray[np.float32] = field(repr=False)
    lesions: LesionMaps | None = None  #: same order; None where the model gives no maps


class VoteRule(StrEnum):
    """How slices become a decision (design 3.6)."""

    MAJORITY = "majority"  #: the class most slices carry: the published rule
    MEAN_PROBABILITY = "mean-probability"
    AFFECTED_FRACTION = "affected-fraction"  #: share of slices that are not normal
    LONGEST_RUN = "longest-run"  #: longest run of neighbouring affected slices


@dataclass(frozen=True, slots=True)
class VotePolicy:
    """A rule with its thresholds; its name stands in every decision."""

    name: str
    rule: VoteRule
    slice_threshold: float = 0.5  #: probability from which a slice counts as affected
    affected_fraction_threshold: float = 0.1  #: share of slices, affected-fraction rule
    longest_run_threshold_mm: float = 15.0  #: longest-run rule
    indeterminate_margin: float = 0.1  #: least lead of the winner, as a share of votes
    least_slices: int = 10  #: fewer lung-bearing slices give no decision


class PatientClass(StrEnum):
    """The patient-level answers."""

    NORMAL = "normal"
    COVID_19 = "covid-19"
    COMMUNITY_ACQUIRED_PNEUMONIA = "community-acquired-pneumonia"
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True, slots=True)
class Decision:
    """One patient-level decision with its evidence."""

    patient_class: PatientClass
    certainty: float  #: 0 to 1, of the class; the leading class's where indeterminate
    class_certainties: tuple[tuple[str, float], ...]  #: every class name with its certainty
    slice_votes: tuple[tuple[str, int], ...]  #: every class name with its number of slices
    n_slices_analysed: int
    affected_slice_indices: tuple[int, ...]
    policy_name: str
    explanation: str  #: one sentence: how the vote fell

    @property
    def affected_fraction(self) -> float:
        """Share of the analysed slices that are affected, 0 to 1."""
        if self.n_slices_analysed == 0:
            return 0.0
        return len(self.affected_slice_indices) / self.n_slices_analysed


@dataclass(frozen=True, slots=True)
class NotAnalysed:
    """The honest other result: no decision, because."""

    reason: NotAnalysedReason
    detail: str


# ── runs ─────────────────────────────────────────────────────────────────────────────────────


class RunReason(StrEnum):
    """Why a run was made."""

    NEW_STUDY = "new-study"
    LATE_INSTANCES = "late-instances"
    REPROCESS = "reprocess"
    NIGHTLY_REPLAY = "nightly-replay"
    LOCAL = "local"  #: `screener screen DIR`: nothing is stored in the database


class RunState(StrEnum):
    """Where a run stands (design 3.4)."""

    QUEUED = "queued"
    RUNNING = "running"
    REPORTED = "reported"  #: results stored, deliveries pending
    DELIVERED = "delivered"  #: every destination has it
    CONFIRMED = "confirmed"  #: every destination said that it holds it
    FAILED = "failed"  #: permanent error or attempts used up
    SUPERSEDED = "superseded"  #: a later run replaces it


class StudyState(StrEnum):
    """Where a study stands (design 3.2)."""

    RECEIVING = "receiving"
    STABLE = "stable"
    VERIFIED = "verified"  #: the expected number of instances came
    UNVERIFIED = "unverified"  #: quiet, but nobody could say how many to expect
    PARTIAL = "partial"  #: fewer than expected came


class CompletionReason(StrEnum):
    """Why a study was thought complete."""

    QUIET = "quiet-time-passed"
    EXPECTED_COUNT = "expected-count-met"
    REQUIRED_SERIES = "required-series-present"
    HARD_CAP = "hard-cap-reached"
    FORCED = "forced-by-a-person"


class Outcome(StrEnum):
    """What became of one instance at one destination."""

    STORED = "stored"
    STORED_WITH_WARNING = "stored-with-warning"  #: kept, with a remark
    REFUSED = "refused"  #: the same bytes will be refused again
    RETRY = "retry"  #: not stored; trying later can help
    SKIPPED = "skipped"  #: the node does not take its class
    REPLACED = "replaced"  #: the node does not take its class and gets a variant instead


class DeliveryState(StrEnum):
    """Where one destination of a run stands."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    CONFIRMED = "confirmed"
    RETRYING = "retrying"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """A model as a run used it."""

    name: str
    version: str
    task: str
    digest: str  #: sha256 of the graph, hexadecimal
    provider: str  #: execution provider really used: cpu, cuda, tensorrt
    fallback_reason: str | None = None  #: why the requested provider was not used


@dataclass(frozen=True, slots=True)
class PredecessorReport:
    """The report that a new one replaces (PS3.3 C.17.2, Predecessor Documents Sequence)."""

    run_id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """All that the derived UIDs and the report say about a run."""

    run_id: str
    study_instance_uid: str
    reason: RunReason
    input_digest: str
    pipeline: str  #: name of the pipeline
    code_version: str
    settings_digest: str
    version: int  #: from 1, counts the runs of the study
    started_at: datetime  #: start of the first attempt; content date and time of every object
    models: tuple[ModelIdentity, ...]
    predecessor: PredecessorReport | None = None
    shortfall: str | None = None  #: what is known to be missing of the study, None for nothing


class ResultKind(StrEnum):
    """What a result object is."""

    STRUCTURED_REPORT = "sr"
    SEGMENTATION = "seg"
    KEY_OBJECT_SELECTION = "ko"
    OVERLAY = "overlay"  #: pictures for people, as a secondary capture
    ENCAPSULATED_PDF = "pdf"  #: the same on one sheet of paper
    PRESENTATION_STATE = "gsps"  #: outlines and words over the original slices
    PARAMETRIC_MAP = "map"  #: where the classifier saw something, as numbers
    LABEL_MAP = "labelmap"  #: the segmentation again, for archives that know the newer class
    VIEWER_REPORT = "viewer-sr"  #: regions alone, for viewers that fail on the whole report


@dataclass(frozen=True, slots=True)
class ResultObject:
    """One encoded result, ready to be stored and then sent."""

    kind: ResultKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    encoded: bytes = field(repr=False)  #: a whole DICOM Part 10 file

    @property
    def digest(self) -> str:
        """sha256 of the encoded file, hexadecimal."""
        return hashlib.sha256(self.encoded).hexdigest()


@dataclass(frozen=True, slots=True)
class Screening:
    """Everything one run found out; `outcome` decides which fields are there."""

    run: RunIdentity
    n_instances: int
    ranking: SeriesRanking
    defects: tuple[SourceDefect, ...]
    outcome: Decision | NotAnalysed
    volume: Volume | None = None
    lungs: LungMask | None = None
    probabilities: SliceProbabilities | None = None
    preview: Preview | None = None  #: only where no volume is there to be shown
    seconds_by_step: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who gets which results, however they travel."""

    name: str
    kinds: tuple[ResultKind, ...]


@dataclass(frozen=True, slots=True)
class WebNode:
    """A DICOMweb service (PS3.18); what it holds of secrets are the names of files."""

    name: str
    url: str  #: root of the service, without a slash at its end
    tls_ca_file: Path | None = None  #: PEM, the authorities that are trusted; None: the system's
    tls_certificate_file: Path | None = None  #: PEM, our client certificate
    tls_key_file: Path | None = None  #: PEM, its key; None: it stands in `tls_certificate_file`
    bearer_token_file: Path | None = None
    basic_auth_file: Path | None = None  #: one line, ``user:password``
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class DimseNode:
    """A DICOM node that we open associations to: a source, a PACS."""

    name: str
    ae_title: str
    host: str
    port: int
    calling_ae_title: str  #: who we are there
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a node says at last to a request for storage commitment (PS3.4 J.3.3)."""

    transaction_uid: str
    committed: frozenset[str]  #: SOP Instance UIDs that it answers for
    failures: tuple[tuple[str, int], ...]  #: SOP Instance UID, Failure Reason (0008,1197)


@dataclass(frozen=True, slots=True)
class PacsStudy:
    """One study as a PACS lists it in a study-level C-FIND answer."""

    study_instance_uid: str
    study_date: str
    modalities: tuple[str, ...]
    n_instances: int | None
