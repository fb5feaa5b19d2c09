"""Import timm beside a torch without CUDA.

timm imports torchvision, and the torchvision of the package index is built for CUDA: beside a CPU
torch its compiled half does not load, and its import then ends with *operator torchvision::nms
does not exist*, because it describes operators that nobody has defined. Two schemas, defined first,
are all that is missing; no classifier of timm calls the operators themselves. This is the one place
that knows, and it does nothing where torchvision loads as it is.
"""

import importlib
import sys
from functools import cache
from types import ModuleType

import torch

#: Operators that torchvision describes without its compiled half.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_timm() -> ModuleType:
    """Give timm, having made sure that torchvision can be imported."""
    _prepare_torchvision()
    return importlib.import_module("timm")


@cache
def _prepare_torchvision() -> torch.library.Library | None:
    """Import torchvision, with the missing schemas where it needs them.

    The library must live as long as the process: torch forgets its operators with it. The cache
    holds it.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return None
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    importlib.import_module("torchvision")
    return library
