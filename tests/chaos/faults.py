"""The faults to survive, each a short script; the numbers are those of the reliability page.

A fault gets a running node and a scene: studies on disk, modalities that send them, the archive.
It does its harm while studies arrive and are worked on, and mends what only a person could mend.
What must hold afterwards is the same for all: `tests.chaos.books`.
"""

from __future__ import annotations

from screener.daemon.fail_points import FailAction, FailPoint
from tests.chaos import peer_faults, process_faults, store_faults
from tests.chaos.node import Engine
from tests.chaos.scene import Fault

_BENT_CLOCK = (("LD_PRELOAD", "{folder}/clock.so"), ("CHAOS_CLOCK", "{folder}/clock"))

#: Every fault that this driver can force. Not here, because something else does it better: 8
#: (power loss: the order of system calls is checked where the listener is measured), 20 (rows in
#: every state meet a migration in the tests of the database), 21 (the audit sink has its own).
FAULTS: tuple[Fault, ...] = (
    Fault("1", "kill -9 of the listener while it receives", process_faults.kill_listener),
    Fault("2", "kill -9 of workers", process_faults.kill_worker),
    Fault("2b", "kill -9 of senders", process_faults.kill_sender),
    Fault(
        "3",
        "segmentation fault and lack of memory in workers",
        process_faults.crash_decoder,
        may_fail=True,
    ),
    Fault(
        "3b",
        "workers hang in inference",
        process_faults.hang_worker,
        settings=(
            ("SCREENER_ALLOW_FAIL_POINTS", "yes"),
            ("SCREENER_TESTING__FAIL_POINTS", f'["{FailPoint.MID_RUN}={FailAction.HANG}*2"]'),
            ("SCREENER_WORKERS__STEP_LIMIT_S", "20"),
            ("SCREENER_WORKERS__STEP_LIMIT_PER_SLICE_S", "0.5"),
        ),
    ),
    Fault(
        "3c",
        "the sweep hangs",
        process_faults.hang_sweep,
        settings=(
            ("SCREENER_ALLOW_FAIL_POINTS", "yes"),
            ("SCREENER_TESTING__FAIL_POINTS", f'["{FailPoint.MID_SWEEP}={FailAction.HANG}*2"]'),
            ("SCREENER_WORKERS__CHORE_LIMIT_S", "10"),
        ),
    ),
    Fault(
        "4",
        "database held by another program",
        store_faults.lock_database,
        engines=(Engine.EMBEDDED,),
    ),
    Fault(
        "4a", "database held for a minute", store_faults.hold_database, engines=(Engine.EMBEDDED,)
    ),
    Fault(
        "4b", "kill -9 of the database server", store_faults.kill_database, engines=(Engine.CELERY,)
    ),
    Fault(
        "4c",
        "restart of the database server",
        store_faults.stop_database_politely,
        engines=(Engine.CELERY,),
    ),
    Fault(
        "4d",
        "disk of the database full",
        store_faults.fill_database_disk,
        engines=(Engine.EMBEDDED,),
        needs=("database-disk",),
    ),
    Fault(
        "4e",
        "database server frozen",
        store_faults.freeze_database,
        engines=(Engine.CELERY,),
    ),
    Fault("5d", "broker frozen", store_faults.freeze_broker, engines=(Engine.CELERY,)),
    Fault("5", "broker emptied and killed", store_faults.lose_broker, engines=(Engine.CELERY,)),
    Fault(
        "5b",
        "forged messages in the broker",
        store_faults.forge_doorbells,
        engines=(Engine.CELERY,),
    ),
    Fault(
        "5c",
        "broker out of memory, lists spoilt",
        store_faults.abuse_broker,
        engines=(Engine.CELERY,),
    ),
    Fault("6", "spool full", store_faults.fill_spool, needs=("tmpfs",)),
    Fault("6b", "spool read-only", store_faults.write_protect_spool, needs=("tmpfs",)),
    Fault("7", "fsync fails", store_faults.fail_fsync, needs=("strace",)),
    Fault("9", "archive away, then a black hole", peer_faults.archive_is_away),
    Fault(
        "9b", "archive full, aborting, silent, forgetful, warning", peer_faults.archive_has_moods
    ),
    Fault(
        "10",
        "storage commitment never comes",
        peer_faults.commitment_never_comes,
        destination=(("confirm", "commitment"), ("commitment_timeout_s", 3.0)),
    ),
    Fault(
        "11",
        "clock steps",
        process_faults.step_clock,
        environment=_BENT_CLOCK,
        needs=("clock",),
    ),
    Fault(
        "11b",
        "clock steps back while claims are held",
        process_faults.step_clock_under_fire,
        environment=_BENT_CLOCK,
        needs=("clock",),
    ),
    Fault(
        "11c",
        "clock in 2038, in 2100 and in 1970",
        process_faults.step_clock_far,
        environment=_BENT_CLOCK,
        needs=("clock",),
    ),
    Fault(
        "11d",
        "daylight saving begins and ends",
        process_faults.change_the_hour,
        environment=(*_BENT_CLOCK, ("TZ", "America/St_Johns")),
        needs=("clock",),
    ),
    Fault("12", "silent and half-open peers", peer_faults.silent_peers),
    Fault("13", "connect flood", peer_faults.flood),
    Fault(
        "13b",
        "5,000 connects a second for a minute",
        peer_faults.flood_for_a_minute,
        needs=("compiler",),
    ),
    Fault("14", "the same studies from two nodes at once", peer_faults.sent_twice),
    Fault("15", "late slices", peer_faults.late_slices),
    Fault("16", "studies interleaved over many associations", peer_faults.scattered),
    Fault(
        "17",
        "a byte of a model changes",
        process_faults.break_model,
        settings=(("SCREENER_MODELS__ROOT", "{folder}/models"),),
        needs=("models",),
    ),
    Fault(
        "18",
        "no GPU",
        process_faults.lose_gpu,
        settings=(("SCREENER_INFERENCE__PROVIDER", "cuda"),),
    ),
    Fault("19", "two schedulers, two senders", process_faults.doubled_parts),
    Fault("22", "log on a full disk", store_faults.fill_log_disk, needs=("full-log",)),
    Fault("23", "workers frozen beyond their lease", process_faults.freeze_worker),
    Fault("24", "rolling restart under load", process_faults.rolling_restart),
)
