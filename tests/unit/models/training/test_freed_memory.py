"""What training frees stays for its next step, and is handed back at its end.

Covered: page faults of large tensors, in a process of their own, and memory afterwards. Not
covered: how much faster a training is for it (research figures).
"""

import subprocess
import sys

import pytest

#: 64 MiB are 16,384 pages. The first tensors may each take fresh memory; then it comes round again.
#: What is taken behind the training may lie in a hole that it left in the heap, so that only one
#: which fits no hole, and is never written to, shows whether large ones are handed back again.
PROGRAM = """
import resource
from pathlib import Path
import torch
from models.training.freed_memory import freed_memory_kept

def faults_of_one() -> float:
    for _ in range(16):
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 8

def mib(field: int) -> float:
    return int(Path("/proc/self/statm").read_text().split()[field]) * 4096 / 2**20

def address_mib_left_by_one() -> float:
    before = mib(0)
    torch.empty(2**28)
    return mib(0) - before

torch.set_num_threads(1)
plain = faults_of_one()
before = mib(1)
with freed_memory_kept():
    kept = faults_of_one()
    inside = mib(1)
    address_inside = address_mib_left_by_one()
print(plain, kept, inside - before, mib(1) - before, address_inside, address_mib_left_by_one())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_large_tensors_reuse_the_memory_of_those_before() -> None:
    """A tensor faults its pages in once; behind the training memory goes back as it is freed."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120
    )
    plain, kept, held_mib, left_mib, address_inside_mib, address_after_mib = (
        float(one) for one in ran.stdout.split()
    )
    assert plain > 15_000
    assert kept < 3_000
    assert held_mib > 60
    assert left_mib < 20
    assert address_inside_mib > 500
    assert address_after_mib < 20
