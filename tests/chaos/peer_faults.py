"""Archives, networks and senders that do what real ones do."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.chaos.archive import BlackHole, Mood

if TYPE_CHECKING:
    from tests.chaos.scene import Scene


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
