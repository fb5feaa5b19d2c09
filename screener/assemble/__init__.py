"""Instances to volume: completion, headers, series selection, slice geometry, decoding to HU."""

from screener.assemble.decoders import Decoders
from screener.assemble.defects import check_one_patient, find_study_defects
from screener.assemble.folder import FolderContents, FolderLimits, read_folder
from screener.assemble.geometry import GeometryRules
from screener.assemble.headers import InstanceHeader, impossible_instances, read_headers
from screener.assemble.preview import preview_study
from screener.assemble.selection import (
    RankedStudy,
    SelectedSeries,
    SelectionRules,
    explain_refusal,
    rank_series,
    refuse_candidate,
)
from screener.assemble.stability import (
    Completion,
    CompletionRules,
    SeriesArrivals,
    StudyArrivals,
    judge_stability,
)
from screener.assemble.volume import DecodedSeries, DecodingRules, decode_series

__all__ = [
    "Completion",
    "CompletionRules",
    "DecodedSeries",
    "Decoders",
    "DecodingRules",
    "FolderContents",
    "FolderLimits",
    "GeometryRules",
    "InstanceHeader",
    "RankedStudy",
    "SelectedSeries",
    "SelectionRules",
    "SeriesArrivals",
    "StudyArrivals",
    "check_one_patient",
    "decode_series",
    "explain_refusal",
    "find_study_defects",
    "impossible_instances",
    "judge_stability",
    "preview_study",
    "rank_series",
    "read_folder",
    "read_headers",
    "refuse_candidate",
]
