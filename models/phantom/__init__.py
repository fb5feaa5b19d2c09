"""Synthetic CT: HU-accurate chest volumes with exact lung and lesion masks.

Knows nothing of DICOM. `make_phantom` makes a chest, `make_abdomen` and `make_head` bodies that
must be refused, `place_lesions` and its neighbours put lesions into any lungs, real ones too.
"""

from models.phantom.chest import make_abdomen, make_phantom
from models.phantom.head import make_head
from models.phantom.lesions import (
    place_consolidation,
    place_lesions,
    place_solid_lobes,
    place_solid_lung,
)
from models.phantom.spec import (
    LEFT_LUNG,
    RIGHT_LUNG,
    Kernel,
    Pattern,
    Phantom,
    PhantomSpec,
    typical_spec,
)
from models.phantom.strewn import Strewn, place_strewn

__all__ = [
    "LEFT_LUNG",
    "RIGHT_LUNG",
    "Kernel",
    "Pattern",
    "Phantom",
    "PhantomSpec",
    "Strewn",
    "make_abdomen",
    "make_head",
    "make_phantom",
    "place_consolidation",
    "place_lesions",
    "place_solid_lobes",
    "place_solid_lung",
    "place_strewn",
    "typical_spec",
]
