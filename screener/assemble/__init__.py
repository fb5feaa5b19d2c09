"""Instances to volume: completion, headers, series selection, slice geometry, decoding to HU."""

from screener.assemble.folder import FolderContents, FolderLimits, read_folder
from screener.assemble.headers import InstanceHeader, read_headers
from screener.assemble.selection import RankedStudy, SelectedSeries, SelectionRules, rank_series
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
    "DecodingRules",
    "FolderContents",
    "FolderLimits",
    "InstanceHeader",
    "RankedStudy",
    "SelectedSeries",
    "SelectionRules",
    "SeriesArrivals",
    "StudyArrivals",
    "decode_series",
    "judge_stability",
    "rank_series",
    "read_folder",
    "read_headers",
]
