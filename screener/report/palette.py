"""Colours and faces of the picture: one meaning, one colour, told apart without hue alone."""

from __future__ import annotations

import unicodedata
from typing import Final, TypeAlias

from PIL import ImageFont

from screener.domain import PatientClass

Colour: TypeAlias = tuple[int, int, int]  #: sRGB, 0 to 255

BACKGROUND: Final[Colour] = (14, 18, 24)
PANEL: Final[Colour] = (24, 30, 39)
INK: Final[Colour] = (236, 240, 245)
MUTED: Final[Colour] = (150, 160, 174)
NOT_ANALYSED: Final[Colour] = (170, 178, 190)
WARNING: Final[Colour] = (255, 205, 96)

#: Colour of each answer; brightness differs too, for readers who do not see the hues.
CLASS_COLOURS: Final[dict[PatientClass, Colour]] = {
    PatientClass.NORMAL: (64, 176, 140),
    PatientClass.COVID_19: (240, 96, 70),
    PatientClass.COMMUNITY_ACQUIRED_PNEUMONIA: (183, 134, 255),
    PatientClass.INDETERMINATE: (242, 190, 66),
}

#: Short names for legends and bars.
CLASS_LABELS: Final[dict[PatientClass, str]] = {
    PatientClass.NORMAL: "Normal",
    PatientClass.COVID_19: "COVID-19 pattern",
    PatientClass.COMMUNITY_ACQUIRED_PNEUMONIA: "CAP pattern",
    PatientClass.INDETERMINATE: "Indeterminate",
}

#: Right and left lung; the segmentation recommends the same colours.
LUNG_COLOURS: Final[dict[int, Colour]] = {1: (64, 196, 255), 2: (255, 193, 64)}


#: Signs beyond ASCII that the type face has.
_HAS: Final = frozenset("°·…’“”")
#: Signs that it lacks and that do not decompose, and what says the same.
_STAND_INS: Final = str.maketrans(
    {"–": "-", "—": "-", "−": "-", "×": "x", "≥": ">=", "≤": "<=", "•": "·", "ß": "ss"}
)


def make_legible(text: str) -> str:
    """Replace signs that the type face would draw as empty boxes; unknown ones become "?"."""
    return "".join(
        sign
        if sign.isascii() or sign in _HAS
        else unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode() or "?"
        for sign in text.translate(_STAND_INS)
    )


def face(size_pixels: int) -> ImageFont.FreeTypeFont:
    """Give the type face that comes with Pillow."""
    font = ImageFont.load_default(size=size_pixels)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType; install a wheel of it")
    return font
