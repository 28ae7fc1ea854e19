"""A process that runs one job of a service: ``python -m maas_magics.local.worker STORE JOB``.

What it does and tells stands in the journal, so it needs nothing of the process that started it,
and goes on when that one dies.
"""

from __future__ import annotations

import signal
import sys
import threading
import time

from maas_magics.api.wire import decode_request
from maas_magics.core import tasks
from maas_magics.core.context import Context
from maas_magics.core.inference.loader import Loader
from maas_magics.core.journal import Journal
from maas_magics.core.store import Store
from maas_magics.core.uploads import Uploads
from maas_magics.local.job import POLL, LocalJob
from maas_magics.local.process import this_process


def main(place: str, id: str, *flags: str) -> None:
    """Run the job to its end, or until a signal asks to give way."""
    store = Store(place)
    journal = Journal(store.work / "jobs.sqlite")
    found, request = journal.find(id), journal.request(id)
    if found is None or request is None:
        raise SystemExit(f"There is no job {id!r} to run.")
    job = LocalJob[object](found[0], journal, journal.events(id), flush=POLL)
    signal.signal(signal.SIGTERM, lambda *_: job.suspend())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    journal.take(id, this_process())

    def look() -> None:
        while True:
            job.look()
            time.sleep(POLL)

    job.look()
    threading.Thread(target=look, daemon=True).start()
    context = Context(
        store,
        Loader(store),
        job.emit,
        job.stopping,
        uploads=Uploads(store.work / "data"),
        checkpoints=store.work / "jobs" / id,
        allow_code="--allow-code" in flags,
    )
    job.run(lambda: tasks.run(decode_request(request), context))


if __name__ == "__main__":
    main(*sys.argv[1:])
