"""Force faults upon a whole node and check that nothing was lost, doubled or silently dropped.

Example: every fault on both engines, or two faults of another seed with more studies.

    python -m tests.chaos
    python -m tests.chaos --seed 7 --studies 6 --engine celery --fault 1 --fault 9b
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.node import Engine
from tests.chaos.scenario import run_fault, write_studies
from tests.chaos.scene import Fault


def main(arguments: list[str] | None = None) -> int:
    """Run the faults that were asked for; 1 where a promise was broken."""
    chosen = make_parser().parse_args(arguments)
    # An end from outside must end the nodes and unmount the small disks too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if chosen.list:
        for fault in FAULTS:
            engines = " and ".join(engine.value for engine in fault.engines)
            _say(f"{fault.number:>4}  {fault.title} ({engines})")
        return 0
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="screener-chaos-") as folder:
        studies = write_studies(Path(folder) / "studies", chosen.studies, chosen.study_folders)
        for number, (fault, engine) in enumerate(_chosen(chosen)):
            where = Path(folder) / f"{number:02d}-{engine.value}-{fault.number}"
            outcome = run_fault(fault, engine, studies, chosen.seed, where)
            outcomes.append(outcome)
            _say(outcome.line())
            if outcome.broken and chosen.keep is not None:
                outcome.keep(where, chosen.keep)
    n_broken = sum(1 for outcome in outcomes if outcome.broken)
    n_skipped = sum(1 for outcome in outcomes if outcome.skipped)
    _say(f"seed {chosen.seed}: {len(outcomes)} faults, {n_broken} broken, {n_skipped} skipped")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([one.as_dict() for one in outcomes], indent=1))
    return 1 if n_broken else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def make_parser() -> argparse.ArgumentParser:
    """Describe the options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, help="decides when faults strike")
    parser.add_argument("--studies", type=int, default=3, help="synthetic studies per fault")
    parser.add_argument(
        "--study-folders", type=Path, nargs="*", default=[], help="real studies, a folder each"
    )
    parser.add_argument("--engine", choices=[one.value for one in Engine], help="one engine alone")
    parser.add_argument("--fault", action="append", help="a number of --list; may be given again")
    parser.add_argument("--list", action="store_true", help="list the faults and end")
    parser.add_argument("--json", type=Path, help="write the outcomes here")
    parser.add_argument("--keep", type=Path, help="keep logs and database of a broken one here")
    return parser


def _chosen(chosen: argparse.Namespace) -> list[tuple[Fault, Engine]]:
    unknown = set(chosen.fault or []) - {fault.number for fault in FAULTS}
    if unknown:
        raise SystemExit(f"no such fault: {', '.join(sorted(unknown))}; see --list")
    return [
        (fault, engine)
        for engine in Engine
        if chosen.engine in (None, engine.value)
        for fault in FAULTS
        if engine in fault.engines and (not chosen.fault or fault.number in chosen.fault)
    ]


if __name__ == "__main__":
    sys.exit(main())
