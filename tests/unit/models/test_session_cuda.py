"""The shipped models on a CUDA device give what they give on the CPU.

Needs the ``gpu`` extra in place of ``cpu``, and a device: ``make test-gpu``.
"""

from __future__ import annotations

import numpy as np
import pytest

from models.registry import find_model
from models.session import LungSegmenter, Provider, SliceClassifier
from tests.unit.models.test_session import body

pytestmark = pytest.mark.gpu

#: Convolutions on tensor cores take TF32, 10 bits of mantissa, for float32 where they may.
LOGIT_TOLERANCE = 0.1


@pytest.mark.parametrize("shape", [(1, 512, 512), (7, 256, 256), (2, 300, 411)])
def test_lungs_on_cuda_are_those_on_cpu(shape: tuple[int, int, int]) -> None:
    """Any batch and size; less than one pixel in a thousand on the other side of the threshold."""
    cpu, cuda = (
        LungSegmenter(find_model("lung-segmentation"), provider=one, threads=1)
        for one in (Provider.CPU, Provider.CUDA)
    )
    assert cuda.provider.actual is Provider.CUDA, cuda.provider.fallback_reason
    hu = body(*shape)
    ours, theirs = cpu.mask(cpu.logits(hu)), cuda.mask(cuda.logits(hu))
    assert ours.any()
    assert np.mean(ours != theirs) < 1e-3


def test_slices_on_cuda_are_those_on_cpu() -> None:
    """Logits and lesion maps agree."""
    cpu, cuda = (
        SliceClassifier(find_model("slice-classifier"), provider=one, threads=1)
        for one in (Provider.CPU, Provider.CUDA)
    )
    assert cuda.provider.actual is Provider.CUDA, cuda.provider.fallback_reason
    hu = body(5, 512, 512)
    boxes = np.tile(np.array([[80, 40, 430, 470]], np.float32), (5, 1))
    (ours, our_map), (theirs, their_map) = cpu.predict(hu, boxes), cuda.predict(hu, boxes)
    np.testing.assert_allclose(theirs, ours, atol=LOGIT_TOLERANCE)
    assert our_map is not None
    assert their_map is not None
    np.testing.assert_allclose(their_map, our_map, atol=LOGIT_TOLERANCE)
