"""A process that runs one job of a service: ``maas_magics.local.worker STORE JOB KEEPER``.

What it does and reports is in the journal, so it needs nothing of the process that started it,
and continues when that one dies.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

import msgspec

from maas_magics.api.errors import StoreError
from maas_magics.api.events import Message
from maas_magics.api.wire import decode_request
from maas_magics.core import dispatch as tasks
from maas_magics.core.context import Context
from maas_magics.core.inference.loader import Loader
from maas_magics.core.store.journal import Journal
from maas_magics.core.store.models import Store
from maas_magics.core.store.uploads import Uploads
from maas_magics.local.job import POLL, LocalJob
from maas_magics.local.keeper import BEAT
from maas_magics.local.limits import HOUR, limit_process, of_memory
from maas_magics.local.process import this_process

LOST = 3
"""Exit code of a worker whose job someone else runs."""


def main(place: str, id: str, keeper: str, *flags: str) -> None:
    """Run the job to its end, or until a signal suspends it."""
    store = Store(place)
    journal = Journal(store.work / "jobs.sqlite")
    found, request = journal.find(id), journal.request(id)
    if found is None or request is None:
        raise SystemExit(f"There is no job {id!r} to run.")
    me = this_process()
    if not journal.take(id, me, keeper):
        return  # it was paused, stopped or taken over by another service meanwhile
    queued = msgspec.structs.replace(found[0], state="queued")
    job = LocalJob[object](queued, journal, journal.events(id), flush=POLL, owner=me)
    over, used_up = threading.Event(), threading.Event()
    given = dict(flag.partition("=")[::2] for flag in flags)
    memory, cpu = int(given.get("--memory", "0")), int(given.get("--cpu", "0"))
    if 0 < int(given.get("--threads", "0")) < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", given["--threads"])  # what comes before torch is imported counts
    os.umask(0o077)
    limit_process(memory, cpu, used_up.set)
    signal.signal(signal.SIGTERM, lambda *_: job.suspend())
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def look() -> None:
        beaten = time.monotonic()
        while not over.wait(POLL):
            job.look()
            if used_up.is_set():
                used_up.clear()
                hours = f"{cpu / HOUR:,.6g}"
                text = f"The {hours} CPU hours of one worker are used up (--worker-cpu of the service): it stops."
                job.emit(Message(text=text, level="warning"))
                job.stop()
            if time.monotonic() - beaten < BEAT:
                continue
            with contextlib.suppress(StoreError):  # locked: it is tried again
                if not journal.beat(id, me) and not over.wait(1.0):
                    os._exit(LOST)  # it was taken for dead: the process that resumes the job must not find two of it
                beaten = time.monotonic()

    job.look()
    threading.Thread(target=look, daemon=True).start()
    context = Context(
        store,
        Loader(store),
        job.emit,
        job.stopping,
        uploads=Uploads(store.work / "data"),
        checkpoints=store.work / "jobs" / id,
        allow_code="--allow-code" in given,
        written=job.written,
        served=True,
    )

    def work() -> object:
        try:
            return tasks.run(decode_request(request), context)
        except Exception as error:
            told = of_memory(error, memory)
            if told is error:
                raise
            raise told from error

    job.run(work)
    over.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
