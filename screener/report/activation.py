"""The colour of where the classifier saw something, over a grey slice.

From dark to bright pink, which no other mark uses, brighter where it is more, so that it reads
without hues too; transparent enough for the anatomy below. Only inside the lungs and a little
around them: the map is coarse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageFilter

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
    near = np.asarray(lungs.filter(ImageFilter.MaxFilter(2 * _MARGIN + 1))) > 0
    inside = np.where(near, shares, 0.0)
    alpha = _STRONGEST * np.clip((inside - _FAINTEST) / (1.0 - _FAINTEST), 0.0, 1.0)
    grey = np.asarray(picture, np.float32)
    for_channel = [
        np.interp(inside, _SHARES, [colour[channel] for colour in _COLOURS]) for channel in range(3)
    ]
    mixed = grey + alpha[..., np.newaxis] * (np.stack(for_channel, axis=-1) - grey)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def seen_mask(shares: NDArray[np.float32], lungs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Give where the classifier saw something inside the lungs."""
    return np.asarray((shares >= SEEN_FROM) & lungs)
