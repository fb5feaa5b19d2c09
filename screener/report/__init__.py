"""Decision to DICOM: the report, the segmentation, the key objects, the picture.

Result objects follow PS3.16 TID 1500 and IHE AIR. Everything in them is derived from the run, so
building them again gives the same bytes.
"""

from screener.report.build import build_results
from screener.report.options import Charset, ContentQualification, ReportClass, ReportOptions
from screener.report.overlay import render_overlay_png

__all__ = [
    "Charset",
    "ContentQualification",
    "ReportClass",
    "ReportOptions",
    "build_results",
    "render_overlay_png",
]
