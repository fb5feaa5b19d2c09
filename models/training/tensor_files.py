"""Read files that torch wrote; nothing in them is executed."""

from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  the name of an error, nothing is unpickled
from typing import Any

import torch

from models.errors import TrainingFailed


def read_tensors(path: Path, device: torch.device | str, *, mend: str) -> dict[str, Any]:
    """Read a dictionary of tensors and plain values.

    Raises
    ------
    TrainingFailed
        The file is damaged, or holds anything else; the message ends with ``mend``.
    """
    try:
        loaded = torch.load(path, weights_only=True, map_location=device)
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingFailed(f"{path} cannot be read ({reason}); {mend}") from error
    if not isinstance(loaded, dict):
        raise TrainingFailed(f"{path} holds no named tensors; {mend}")
    return loaded
