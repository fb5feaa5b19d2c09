"""Archives, networks and senders that do what real ones do."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.archive import BlackHole, Mood
from tests.chaos.native import compile_native
from tests.chaos.node import Role

if TYPE_CHECKING:
    from tests.chaos.scene import Scene

#: An address of this machine that no peer has.
_STRANGER = "127.0.0.66"
#: How often somebody connects at least, and how often in a second at most.
_FLOOD_COUNT, _FLOOD_RATE = 150_000, 5000
#: What a minute of that may cost the listener, in bytes.
_FLOOD_BYTES = 16 * 1024 * 1024


# ── the archive ──────────────────────────────────────────────────────────────────────────────


def archive_has_moods(scene: Scene) -> None:
    """Go through everything that a PACS can do to a sender, then be well."""
    moods = [Mood.FULL, Mood.ABORT, Mood.SILENT, Mood.FORGETFUL, Mood.WARNING]
    scene.rng.shuffle(moods)
    scene.archive.mood = moods[0]
    scene.send_all()
    for mood in moods:
        scene.archive.mood = mood
        scene.wait(6.0, 10.0)
    scene.archive.heal()


def archive_is_away(scene: Scene) -> None:
    """Nobody listens; then somebody accepts and says nothing; then the archive is back."""
    port = scene.archive.port
    scene.archive.stop()
    scene.send_all()
    scene.wait(10.0, 15.0)
    with BlackHole(port):
        scene.wait(10.0, 15.0)
    scene.archive.start()


def commitment_never_comes(scene: Scene) -> None:
    """The archive agrees to report a storage commitment and never does."""
    scene.send_all()
    scene.wait(5.0, 8.0)


# ── the network and the senders ──────────────────────────────────────────────────────────────


def silent_peers(scene: Scene) -> None:
    """Open connections that say nothing, half a header, or vanish, while studies arrive."""
    with ExitStack() as held, scene.sending():
        for number in range(12):
            peer = held.enter_context(socket.socket())
            peer.settimeout(2.0)
            if peer.connect_ex(("127.0.0.1", scene.node.port)) == 0 and number % 3:
                with_header = b"\x01\x00\x00\x00" if number % 3 == 1 else b"\x01"
                _try_to_send(peer, with_header)
            scene.wait(0.05, 0.2)


def flood(scene: Scene) -> None:
    """Connect a thousand times, and close at once, while studies arrive."""
    with scene.sending():
        for _ in range(1_000):
            with socket.socket() as peer:
                peer.settimeout(1.0)
                peer.connect_ex(("127.0.0.1", scene.node.port))


def flood_for_a_minute(scene: Scene) -> None:
    """Connect 5,000 times a second, half a minute from a stranger, half from a known address.

    Who sends studies beside it must get through: each flood goes on until they are acknowledged. It
    must be the same listener afterwards, and its memory must not have grown.
    """
    flooder = compile_native("flooder.c", scene.folder / "flooder")
    half = len(scene.studies) // 2
    (listener,) = scene.node.pids(Role.LISTENER)
    before_bytes = _peak_bytes(listener)
    for address, studies in (
        (_STRANGER, scene.studies[:half]),
        ("127.0.0.1", scene.studies[half:]),
    ):
        command = [flooder, address, str(scene.node.port), str(_FLOOD_COUNT), str(_FLOOD_RATE)]
        with subprocess.Popen(command, stdin=subprocess.PIPE):
            for thread in [scene.modality.send_in_background(study) for study in studies]:
                thread.join()
    if scene.node.pids(Role.LISTENER) != [listener]:
        raise AssertionError("the flood ended the listener")
    grown_bytes = _peak_bytes(listener) - before_bytes
    if grown_bytes > _FLOOD_BYTES:
        raise AssertionError(f"the flood cost {grown_bytes / 2**20:.0f} MB of the listener")


def _peak_bytes(pid: int) -> int:
    """Give the most memory that a process ever had, of its own and shared."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _try_to_send(peer: socket.socket, content: bytes) -> None:
    try:
        peer.sendall(content)
    except OSError:
        return  # the node has closed it already: its right


def sent_twice(scene: Scene) -> None:
    """Two nodes send the same studies at the same time."""
    threads = [scene.modality.send_in_background(study) for study in scene.studies]
    threads += [scene.second_modality.send_in_background(study) for study in scene.studies]
    for thread in threads:
        thread.join()
    for study in scene.studies:
        status = scene.node.status(study.study_instance_uid)
        if status is not None and status.n_instances != len(study.files):
            raise AssertionError(f"{status.n_instances} instances of {len(study.files)} files")


def late_slices(scene: Scene) -> None:
    """Hold back the last slices of every study until it is being worked on."""
    for study in scene.studies:
        scene.modality.send(study, study.files[:-2])
    scene.wait(6.0, 12.0)
    for study in scene.studies:
        scene.modality.send(study, study.files[-2:])
    scene.wait(5.0, 6.0)


def scattered(scene: Scene) -> None:
    """Send studies interleaved, each over five associations."""
    parts = [(study, study.files[start::5]) for study in scene.studies for start in range(5)]
    scene.rng.shuffle(parts)
    threads = [scene.modality.send_in_background(study, files) for study, files in parts]
    for thread in threads:
        thread.join()
