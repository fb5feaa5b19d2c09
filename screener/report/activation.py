"""The colour of where the classifier saw something, over a grey slice.

From dark to bright pink, which no other mark uses, brighter where it is more, so that it reads
without hues too; transparent enough for the anatomy below. Only inside the lungs and a little
around them: the map is coarse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from screener.report.palette import Colour

#: Probability from which a pixel counts as seen: the line, and the outlines of other objects.
SEEN_FROM: Final = 0.5
#: Words for legends.
ACTIVATION: Final = "seen by the AI"
#: Below this nothing is coloured.
_FAINTEST: Final = 0.2
#: Share of the colour at probability 1.
_STRONGEST: Final = 0.4
_SHARES: Final = (0.2, 0.45, 0.7, 1.0)
_COLOURS: Final = ((110, 0, 90), (200, 0, 130), (255, 40, 170), (255, 150, 215))
_LEVELS: Final = 255
_RAMP: Final = tuple(level / _LEVELS for level in range(_LEVELS + 1))
_OPACITIES: Final = [
    round(_LEVELS * _STRONGEST * max(level - _FAINTEST, 0.0) / (1.0 - _FAINTEST)) for level in _RAMP
]
#: Pixels around the lungs that may be coloured, one side.
_MARGIN: Final = 3


def activation_colour(share: float) -> Colour:
    """Give the colour of a probability, 0 to 1."""
    red, green, blue = (
        round(float(np.interp(share, _SHARES, [colour[channel] for colour in _COLOURS])))
        for channel in range(3)
    )
    return red, green, blue


def colour_activation(
    picture: Image.Image, shares: NDArray[np.float32], lungs: Image.Image
) -> Image.Image:
    """Colour a picture where the probability of a lesion is high.

    Parameters
    ----------
    picture
        RGB.
    shares
        Probabilities 0 to 1, ``(rows, columns)`` of the picture.
    lungs
        Mask of the picture's size, 0 or 255.
    """
    outside = np.asarray(lungs) == 0
    for _ in range(_MARGIN):
        outside = erode(outside)
    levels = Image.fromarray(np.rint(np.where(outside, 0.0, shares) * _LEVELS).astype(np.uint8))
    colours = levels.copy()
    colours.putpalette([part for level in _RAMP for part in activation_colour(level)])
    drawn = picture.copy()
    drawn.paste(colours.convert("RGB"), mask=levels.point(_OPACITIES))
    return drawn


def erode(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Give the pixels of a mask that have only pixels of it around them; edges count as inside."""
    padded = np.pad(mask, 1, constant_values=True)
    rows = padded[:-2] & padded[1:-1] & padded[2:]
    return np.asarray(rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:])


def seen_mask(shares: NDArray[np.float32], lungs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Give where the classifier saw something inside the lungs."""
    return np.asarray((shares >= SEEN_FROM) & lungs)
