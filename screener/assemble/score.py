"""Score a series that could be screened by how close it is to what the models were made for.

Points, with the sentence that explains them. The weights are ours: coverage and slice spacing
decide, the rest breaks ties between reconstructions of the same scan.
"""

import re
from collections.abc import Sequence

from screener.assemble.headers import SliceHeader
from screener.domain import SeriesGeometry

#: Coverage that shows both lungs of nearly every adult, mm: more earns nothing.
_FULL_COVERAGE_MM = 300.0
#: Body parts (0018,0015) in which a chest CT is filed, and those that speak against it.
_CHEST_WORDS = ("CHEST", "THORAX", "LUNG", "HEART", "PULMON")
_OTHER_WORDS = ("HEAD", "BRAIN", "SKULL", "NECK", "ABDOMEN", "PELVIS", "LEG", "ARM", "KNEE", "HAND")
#: Kernels that sharpen edges: vendors' words, and Siemens and Canon numbers.
_SHARP_WORDS = ("LUNG", "BONE", "EDGE", "DETAIL", "SHARP", "YA", "YB", "YC", "YD")
_SHARP_NUMBER = 50


def score_stack(
    stack: Sequence[SliceHeader], geometry: SeriesGeometry
) -> tuple[float, tuple[str, ...]]:
    """Give the points of a series, 0 to 100, and the sentences behind them.

    Parameters
    ----------
    stack
        The axial slices of one grid, at least one.
    geometry
        Their measured geometry.
    """
    first = stack[0]
    parts = (
        _score_coverage(geometry),
        _score_spacing(geometry),
        _score_image_type(first.frame.image_type),
        _score_body_part(first.header.body_part),
        _score_kernel(first.header.kernel),
        _score_contrast(has_contrast=first.header.has_contrast),
        _score_regularity(geometry),
    )
    points = sum(part[0] for part in parts)
    reasons = tuple(f"{text} ({value:+.1f})" for value, text in parts)
    return max(0.1, round(points, 1)), reasons


def _score_coverage(geometry: SeriesGeometry) -> tuple[float, str]:
    share = min(1.0, geometry.coverage_mm / _FULL_COVERAGE_MM)
    return 35.0 * share, f"covers {geometry.coverage_mm:.0f} mm with {geometry.n_slices} slices"


def _score_spacing(geometry: SeriesGeometry) -> tuple[float, str]:
    """Best from 1 to 3 mm; thinner is noisier and slower, thicker hides small lesions."""
    spacing_mm = geometry.slice_spacing_mm
    if spacing_mm < 1.0:
        points = 14.0
    elif spacing_mm <= 3.0:  # noqa: PLR2004
        points = 20.0
    else:
        points = max(0.0, 20.0 - 2.5 * (spacing_mm - 3.0))
    return points, f"slices every {spacing_mm:.2f} mm"


def _score_image_type(image_type: tuple[str, ...]) -> tuple[float, str]:
    if not image_type:
        return 5.0, "no Image Type"
    text = "\\".join(image_type[:3])
    if image_type[:2] == ("ORIGINAL", "PRIMARY"):
        return (15.0 if "AXIAL" in image_type else 12.0), f"image type {text}"
    return (6.0 if "MPR" not in image_type else 3.0), f"image type {text}"


def _score_body_part(body_part: str) -> tuple[float, str]:
    """Body part is often wrong or inherited from the protocol: it never refuses."""
    if not body_part:
        return 5.0, "no body part"
    if any(word in body_part for word in _CHEST_WORDS):
        return 15.0, f"body part {body_part[:16]}"
    if any(word in body_part for word in _OTHER_WORDS):
        return 0.0, f"body part {body_part[:16]}"
    return 5.0, f"body part {body_part[:16]}"


def _score_kernel(kernel: str) -> tuple[float, str]:
    if not kernel:
        return 2.5, "no kernel"
    sharp = _is_sharp(kernel)
    return (
        1.0 if sharp else 5.0
    ), f"{'sharp' if sharp else 'soft or standard'} kernel {kernel[:16]}"


def _is_sharp(kernel: str) -> bool:
    name = kernel.upper()
    if any(name.startswith(word) for word in _SHARP_WORDS):
        return True
    number = re.search(r"\d+", name)
    return number is not None and int(number.group()) >= _SHARP_NUMBER


def _score_contrast(*, has_contrast: bool) -> tuple[float, str]:
    return (2.0, "with contrast agent") if has_contrast else (5.0, "no contrast agent")


def _score_regularity(geometry: SeriesGeometry) -> tuple[float, str]:
    is_clean = geometry.is_regular and geometry.n_missing_slices == 0
    return (5.0, "regular spacing") if is_clean else (0.0, "gaps or irregular spacing")
