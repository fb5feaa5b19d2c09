"""`make fuzz`: mutate inputs of every target for as long as wished; a finding ends it with 1.

``python -m tests.fuzz [--seconds 600] [--seed N] [TARGET ...]``. A finding is written to
``tests/fuzz/findings/`` and becomes a seed of the corpus once it is mended.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from screener.receive.guard import configure_library
from tests.fuzz.corpus import SEEDS
from tests.fuzz.targets import MOST_BYTES, MOST_S, TARGETS, Target

FINDINGS = Path(__file__).parent / "findings"
#: Longest input, in bytes.
LONGEST = 64 * 1024
#: Values that lengths and types break on.
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all without")
    parser.add_argument("--seconds", type=float, default=600.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=None, help="repeats a run")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.targets) - set(TARGETS))
    if unknown:
        parser.error(f"{unknown[0]} is no target; there are: {', '.join(TARGETS)}")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    names = options.targets or list(TARGETS)
    configure_library()
    console = Console(stderr=True)
    console.print(f"seed {seed}, {options.seconds / len(names):.0f} s for each of {len(names)}")
    with Progress(console=console, transient=True) as bar:
        found = [
            fuzz(name, options.seconds / len(names), random.Random(seed), bar)  # noqa: S311
            for name in names
        ]
    return 1 if any(found) else 0


def fuzz(name: str, seconds: float, rng: random.Random, bar: Progress) -> bool:
    """Mutate inputs of one target for so many seconds; say whether something was found."""
    target, pool = TARGETS[name], list(SEEDS[name])
    task = bar.add_task(name, total=seconds)
    started_s = time.monotonic()
    n_inputs = 0
    while (elapsed_s := time.monotonic() - started_s) < seconds:
        content = pool[n_inputs] if n_inputs < len(pool) else mutate(rng, pool)
        n_inputs += 1
        complaint = complaint_about(target, content)
        if complaint:
            write_finding(name, content, complaint, bar.console)
            return True
        # A varied pool reaches further than its seeds.
        if len(pool) < 500 and rng.random() < 0.02:
            pool.append(content)
        bar.update(task, completed=elapsed_s)
    bar.console.print(f"{name}: {n_inputs} inputs, nothing found")
    return False


def complaint_about(target: Target, content: bytes) -> str:
    """Run a target on one input; empty where it behaved."""
    before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started_s = time.process_time()
    try:
        target(content)
    except Exception as error:  # noqa: BLE001 - whatever comes out is the finding
        return f"{type(error).__name__}: {error}"
    if time.process_time() - started_s > MOST_S:
        return f"took {time.process_time() - started_s:.1f} s"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before_bytes
    return f"took {grown} bytes" if grown > MOST_BYTES else ""


def mutate(rng: random.Random, pool: Sequence[bytes]) -> bytes:
    """Give an input that is like one of the pool, and is not."""
    content = bytearray(rng.choice(pool))
    for _ in range(1 + int(rng.expovariate(0.5))):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(6):
            case 0 if content:
                content[at % len(content)] = rng.randrange(256)
            case 1 if content:
                content[at % len(content)] = rng.choice(INTERESTING)
            case 2:
                del content[at : at + 1 + int(rng.expovariate(0.1))]
            case 3:
                content[at:at] = rng.randbytes(1 + int(rng.expovariate(0.1)))
            case 4:
                other = rng.choice(pool)
                start = rng.randrange(len(other) + 1)
                content[at:at] = other[start : start + 1 + int(rng.expovariate(0.01))]
            case _:
                content[at : at + 4] = bytes(rng.choice(INTERESTING) for _ in range(4))
    return bytes(content[:LONGEST])


def write_finding(name: str, content: bytes, complaint: str, console: Console) -> None:
    """Keep what was found, and say where."""
    FINDINGS.mkdir(exist_ok=True)
    path = FINDINGS / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    path.write_bytes(content)
    console.print(f"{name}: {complaint}\n  {path}")


if __name__ == "__main__":
    sys.exit(main())
