"""A kernel that is restarted while a cell waits for a training on a service; and one that is only interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager, start_new_kernel

from maas_magics.api.events import FINAL_STATES
from maas_magics.session import Session

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SETUP = "%load_ext maas_magics\n%connect local\nimport numpy as np\nX = np.random.rand(64, 3); y = X.sum(1)"
TRAIN = "%train m --data (X, y) --model linear --epochs 1000000 --patience 0 --threads 1"


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[tuple[KernelManager, Any, Session]]:
    """A kernel whose cells run on this machine's service of a store of its own, and a session there."""
    manager, client = start_new_kernel(
        kernel_name="python3", env={**os.environ, "MAAS_STORE": str(tmp_path / "store"), "MAAS_UI": ""}
    )
    session = Session(str(tmp_path / "store"))
    try:
        client.execute_interactive(SETUP, timeout=600, output_hook=lambda message: None)
        session.connect("local")
        yield manager, client, session
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        session.stop_serving(None)


def begin(client: Any, session: Session) -> Any:
    """The job of a cell that waits for it, once it has ended an epoch."""
    client.execute(TRAIN)
    until = time.monotonic() + 600
    while time.monotonic() < until:
        for info in session.backend.jobs():
            job = session.backend.job(info.id)
            if any(type(event).__name__ == "EpochEnd" for event in job.events(follow=False)):
                return job
        time.sleep(0.2)
    raise AssertionError("no training began")


def test_a_restart_leaves_the_job_alone(kernel: tuple[KernelManager, Any, Session]) -> None:
    manager, client, session = kernel
    job = begin(client, session)
    manager.restart_kernel()
    client.wait_for_ready(timeout=600)
    before = max(event.seq for event in job.events(follow=False))
    fresh = next(event for event in job.events(after=before) if type(event).__name__ == "EpochEnd")
    assert fresh.seq > before and job.info.state == "running"
    job.stop()
    job.result(timeout=600)


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_without_an_end_stops_it(kernel: tuple[KernelManager, Any, Session], times: int) -> None:
    manager, client, session = kernel
    job = begin(client, session)
    for _ in range(times):
        manager.interrupt_kernel()
        time.sleep(0.3)
    job.result(timeout=600)
    assert job.info.state == "stopped"
    assert job.info.state in FINAL_STATES and session.backend.models.get("m").version == 1
