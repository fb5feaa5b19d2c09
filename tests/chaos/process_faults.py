"""Processes that die, hang, stop or stumble over the clock or a model."""

from __future__ import annotations

import resource
import shutil
import signal
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from screener.domain import RunState
from tests.chaos.node import Role
from tests.integration.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.modality import ChaosStudy
    from tests.chaos.scene import Scene

#: Seconds since 1970.
_LAST_SECOND_OF_32_BITS = 2**31 - 1
_YEAR_2100 = 4_102_444_800
#: Half past three hours west of Greenwich, in summer half past two; both at 2:00 of a clock there.
_SPRING_IN_ST_JOHNS = datetime(2027, 3, 14, 5, 30, tzinfo=UTC).timestamp()
_AUTUMN_IN_ST_JOHNS = datetime(2027, 11, 7, 4, 30, tzinfo=UTC).timestamp()


# ── processes that die ───────────────────────────────────────────────────────────────────────


def kill_listener(scene: Scene) -> None:
    """Kill the listener again and again while it receives."""
    with scene.sending():
        for _ in range(4):
            scene.wait(0.3, 3.0)
            scene.node.hit(Role.LISTENER)


def kill_worker(scene: Scene) -> None:
    """Kill workers in the middle of inference, of building results, of storing them."""
    scene.send_all()
    for _ in range(2):
        scene.wait(3.0, 8.0)
        scene.node.hit(Role.WORKER)


def kill_sender(scene: Scene) -> None:
    """Kill whoever delivers while it delivers."""
    scene.send_all()
    for _ in range(3):
        scene.wait(2.0, 8.0)
        scene.node.hit(Role.SENDER)


def crash_decoder(scene: Scene) -> None:
    """End workers by a segmentation fault, as a codec would, then take their memory away."""
    scene.send_all()
    scene.wait(3.0, 8.0)
    scene.node.hit(Role.WORKER, signal.SIGSEGV)
    scene.wait(4.0, 8.0)
    for pid in scene.node.pids(Role.WORKER):
        try:
            resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
        except ProcessLookupError:
            continue
    scene.wait(5.0, 8.0)
    scene.node.hit(Role.WORKER)  # whoever still limps without memory is replaced


def hang_worker(scene: Scene) -> None:
    """Let the first two runs hang in inference, as a library may: the process is there for ever."""
    scene.send_all()


def hang_sweep(scene: Scene) -> None:
    """Let the first two sweeps hang: nobody else finds that a study is complete."""
    scene.send_all()


def freeze_worker(scene: Scene) -> None:
    """Stop workers for longer than a lease, as a paused machine does; their results come late."""
    scene.send_all()
    scene.wait(3.0, 6.0)
    scene.node.hit(Role.WORKER, signal.SIGSTOP)
    scene.wait(9.0, 12.0)  # the lease is six seconds
    scene.node.hit(Role.WORKER, signal.SIGCONT)


def rolling_restart(scene: Scene) -> None:
    """Ask every part in turn to end, under load."""
    with scene.sending():
        for role in (Role.LISTENER, Role.WORKER, Role.SCHEDULER, Role.SENDER):
            scene.wait(1.0, 4.0)
            scene.node.hit(role, signal.SIGTERM)


def doubled_parts(scene: Scene) -> None:
    """Run two schedulers and two senders."""
    scene.node.start_extra("extra-scheduler", "schedule")
    scene.node.start_extra("extra-sender", "deliver")
    scene.send_all()
    scene.wait(3.0, 5.0)


# ── clock and models ─────────────────────────────────────────────────────────────────────────


def step_clock(scene: Scene) -> None:
    """Step the clock of every process forth and back by an hour and by a day."""
    steps = [3600, -3600, 86_400, -86_400, 0]
    clock = scene.folder / "clock"
    with scene.sending():
        for step in steps:
            scene.wait(2.0, 4.0)
            clock.write_text(f"{step}\n", encoding="ascii")


def step_clock_under_fire(scene: Scene) -> None:
    """Kill whoever holds a claim while the clock is a day ahead; then it is today again."""
    clock = scene.folder / "clock"
    clock.write_text("86400\n", encoding="ascii")
    with scene.sending():
        scene.wait(1.0, 4.0)
    scene.wait(4.0, 8.0)
    scene.node.hit(Role.WORKER)
    scene.node.hit(Role.SENDER)
    clock.write_text("0\n", encoding="ascii")


def step_clock_far(scene: Scene) -> None:
    """Let the clock pass the last second of 32 bits, then be in 2100, then where clocks begin.

    Whoever schedules starts anew each time: it does every chore at once, also what deletes files.
    """
    clock, began_s = scene.folder / "clock", time.time()
    first = scene.studies[0]
    scene.modality.send(first)
    wait_until(lambda: _is_confirmed(scene, first), "the first study is confirmed", 300)
    with scene.sending():
        for at_s in (_LAST_SECOND_OF_32_BITS - 10, _YEAR_2100, 30):
            clock.write_text(f"{int(at_s - began_s)}\n", encoding="ascii")
            scene.wait(4.0, 8.0)
            scene.node.hit(Role.SCHEDULER)
            scene.wait(4.0, 8.0)
    clock.write_text("0\n", encoding="ascii")


def change_the_hour(scene: Scene) -> None:
    """Leave an hour out, then let one come twice, on a node in Newfoundland, while studies come."""
    clock, half = scene.folder / "clock", len(scene.studies) // 2
    for at_s, studies in (
        (_SPRING_IN_ST_JOHNS, scene.studies[:half]),
        (_AUTUMN_IN_ST_JOHNS, scene.studies[half:]),
    ):
        clock.write_text(f"{int(at_s - time.time()) - 5}\n", encoding="ascii")
        threads = [scene.modality.send_in_background(study) for study in studies]
        scene.wait(6.0, 12.0)
        for thread in threads:
            thread.join()
        scene.node.hit(Role.SCHEDULER)  # it finds anew which nights have no audit
        scene.wait(4.0, 8.0)
    clock.write_text("0\n", encoding="ascii")


def _is_confirmed(scene: Scene, study: ChaosStudy) -> bool:
    status = scene.node.status(study.study_instance_uid)
    return status is not None and status.run is not None and status.run.state is RunState.CONFIRMED


def break_model(scene: Scene) -> None:
    """Change one byte of a model while the node runs, and mend it after a while."""
    graph = scene.folder / "models" / "lung_segmentation" / "model.onnx"
    whole = graph.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    scene.send_all()
    graph.write_bytes(bytes(damaged))
    scene.node.hit(Role.WORKER)
    scene.wait(8.0, 12.0)
    graph.write_bytes(whole)


def lose_gpu(scene: Scene) -> None:
    """Ask for a GPU that is not there: the CPU serves, and the run says so."""
    scene.send_all()


def copy_models(source: Path, folder: Path) -> None:
    """Give a node its own models, so that they can be damaged."""
    for name in ("lung_segmentation", "slice_classifier"):
        shutil.copytree(source / name, folder / "models" / name, dirs_exist_ok=True)
