"""What training frees stays for its next step, and is handed back at its end.

Covered: page faults of large tensors, in a process of their own, and memory afterwards. Not
covered: how much faster a training is for it (research figures).
"""

import subprocess
import sys

import pytest

#: 64 MiB are 16,384 pages. The first tensors may each take fresh memory; then it comes round again.
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

def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

torch.set_num_threads(1)
plain = faults_of_one()
before = resident_mib()
with freed_memory_kept():
    kept = faults_of_one()
    inside = resident_mib()
print(plain, kept, faults_of_one(), inside - before, resident_mib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_large_tensors_reuse_the_memory_of_those_before() -> None:
    """A tensor faults its pages in once; behind the training everything is as it was."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120
    )
    plain, kept, after, held_mib, left_mib = (float(one) for one in ran.stdout.split())
    assert plain > 15_000
    assert kept < 100
    assert after > 15_000
    assert held_mib > 60
    assert left_mib < 20
