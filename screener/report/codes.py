"""Every coded concept the report uses, in one table.

A concept is written here once, with the shortest meaning its scheme allows (Code Meaning holds
64 characters), and cited by name elsewhere. SNOMED CT concepts that no DICOM context group lists
(COVID-19, community acquired pneumonia) are constants of ours; the private scheme
:data:`PRIVATE_SCHEME` holds only what no standard scheme names. Retired SRT codes never appear.
"""

from __future__ import annotations

from typing import Final

from pydicom.sr.coding import Code

from screener.domain import NotAnalysedReason, PatientClass

#: Coding Scheme Designator of our own concepts; PS3.16 8.2 reserves the prefix 99 for these.
PRIVATE_SCHEME: Final = "99CTSCREEN"
PRIVATE_SCHEME_NAME: Final = "CT Screener concepts"


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


def _ours(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


# ── document and observer (TID 1500, 1002, 1004; PS3.16) ─────────────────────────────────────

IMAGING_MEASUREMENT_REPORT = _dcm("126000", "Imaging Measurement Report")
IMAGE_LIBRARY = _dcm("111028", "Image Library")
IMAGE_LIBRARY_GROUP = _dcm("126200", "Image Library Group")
IMAGING_MEASUREMENTS = _dcm("126010", "Imaging Measurements")
DEVICE = _dcm("121007", "Device")
PROCESSING_EQUIPMENT = _dcm("109102", "Processing Equipment")
SOURCE = _sct("260753009", "Source")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
COMMENT = _dcm("121106", "Comment")
CONCLUSION = _dcm("121077", "Conclusion")
OF_INTEREST = _dcm("113000", "Of Interest")

# ── where pictures come from (CID 7203, CID 7202) ────────────────────────────────────────────

DERIVATION = _dcm("113076", "Segmentation")
#: CID 7180: the quantity that the map holds; the classifier looks at a slice through it.
CLASS_ACTIVATION = _dcm("130402", "Class activation")
SOURCE_FOR_PROCESSING = _dcm("121322", "Source image for image processing operation")

# ── findings ─────────────────────────────────────────────────────────────────────────────────

FINDING_SITE = _sct("363698007", "Finding Site")
LUNG = _sct("39607008", "Lung")
RIGHT = _sct("24028007", "Right")
LEFT = _sct("7771000", "Left")
DISEASE = _sct("64572001", "Disease")
ANATOMICAL_STRUCTURE = _sct("91723000", "Anatomical Structure")
CERTAINTY_OF_FINDING = _dcm("111012", "Certainty of Finding")
SOURCE_OF_MEASUREMENT = _dcm("121112", "Source of Measurement")
VOLUME = _sct("118565006", "Volume")
SUM_OF_SEGMENTED_VOXELS = _dcm("126030", "Sum of segmented voxel method for volume")
OVERALL_ASSESSMENT = _dcm("111413", "Overall Assessment")
ARTIFICIAL_INTELLIGENCE = _dcm("123110", "Artificial Intelligence")

NORMAL = _sct("17621005", "Normal")
COVID_19 = _sct("840539006", "COVID-19")
COMMUNITY_ACQUIRED_PNEUMONIA = _sct("385093006", "Community acquired pneumonia")
INDETERMINATE = _sct("82334004", "Indeterminate")

#: Concept of each patient-level answer.
PATIENT_CLASSES: Final[dict[PatientClass, Code]] = {
    PatientClass.NORMAL: NORMAL,
    PatientClass.COVID_19: COVID_19,
    PatientClass.COMMUNITY_ACQUIRED_PNEUMONIA: COMMUNITY_ACQUIRED_PNEUMONIA,
    PatientClass.INDETERMINATE: INDETERMINATE,
}

# ── did it run? (CID 6047) ───────────────────────────────────────────────────────────────────

PROCESSING_SUMMARY = _dcm("111017", "CAD Processing and Findings Summary")
SUCCEEDED_WITH_FINDINGS = _dcm("111242", "All algorithms succeeded; with findings")
SUCCEEDED_WITHOUT_FINDINGS = _dcm("111241", "All algorithms succeeded; without findings")
NOT_ALL_SUCCEEDED = _dcm("111243", "Not all algorithms succeeded; without findings")
NONE_SUCCEEDED = _dcm("111245", "No algorithms succeeded; without findings")

# ── what the images were like (CID 7036) ─────────────────────────────────────────────────────

IMAGING_SERIES_QUALITY = _dcm("130550", "Imaging Series Quality")
DIAGNOSTIC_QUALITY = Code("RID12", "RADLEX", "Diagnostic quality")
LIMITED_QUALITY = Code("RID13", "RADLEX", "Limited quality")

# ── ours: no standard scheme names these ─────────────────────────────────────────────────────

NOT_ANALYSED = _ours("NOT-ANALYSED", "Not analysed")
REASON_NOT_ANALYSED = _ours("NA-REASON", "Reason why the study was not analysed")
N_SLICES_ANALYSED = _ours("N-ANALYSED", "Number of slices analysed")
N_SLICES_AFFECTED = _ours("N-AFFECTED", "Number of affected slices")
PERCENT_SLICES_AFFECTED = _ours("PCT-AFFECTED", "Share of the analysed slices that are affected")

#: Code Value holds 16 characters, so reasons are shortened here.
NOT_ANALYSED_REASONS: Final[dict[NotAnalysedReason, Code]] = {
    NotAnalysedReason.NO_IMAGES: _ours("NA-NO-IMAGES", "No images"),
    NotAnalysedReason.UNSUPPORTED_MODALITY: _ours("NA-MODALITY", "Unsupported modality"),
    NotAnalysedReason.LOCALIZER_ONLY: _ours("NA-LOCALIZER", "Localizer only"),
    NotAnalysedReason.NOT_AXIAL: _ours("NA-NOT-AXIAL", "No axial images"),
    NotAnalysedReason.DERIVED_ONLY: _ours("NA-DERIVED", "Derived images only"),
    NotAnalysedReason.TOO_FEW_SLICES: _ours("NA-FEW-SLICES", "Too few slices"),
    NotAnalysedReason.TOO_LITTLE_COVERAGE: _ours("NA-COVERAGE", "Too little coverage"),
    NotAnalysedReason.BROKEN_GEOMETRY: _ours("NA-GEOMETRY", "Broken geometry"),
    NotAnalysedReason.GANTRY_TILTED: _ours("NA-TILT", "Gantry tilted"),
    NotAnalysedReason.UNREADABLE_PIXELS: _ours("NA-PIXELS", "Unreadable pixels"),
    NotAnalysedReason.NOT_A_CHEST: _ours("NA-NOT-CHEST", "Not a chest"),
    NotAnalysedReason.LUNGS_INCOMPLETE: _ours("NA-LUNGS-CUT", "Lungs incomplete"),
    NotAnalysedReason.CONFLICTING_PATIENTS: _ours("NA-PATIENTS", "Conflicting patients"),
}

# ── units (UCUM) ─────────────────────────────────────────────────────────────────────────────

PERCENT = Code("%", "UCUM", "Percent")
CUBIC_CENTIMETER = Code("cm3", "UCUM", "cubic centimeter")
NO_UNITS = Code("1", "UCUM", "no units")

# ── procedure reported (CID 100; the procedure that was imaged, not the algorithm) ───────────

CT_CHEST = Code("24627-2", "LN", "CT Chest")
#: For studies that are not screened: what the modality can be called without knowing the region.
PROCEDURES_BY_MODALITY: Final[dict[str, Code]] = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "CR": Code("43468-8", "LN", "XR unspecified body region"),
    "DX": Code("43468-8", "LN", "XR unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
}
IMAGING_PROCEDURE = _sct("363679005", "Imaging procedure")
