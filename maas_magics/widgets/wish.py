"""What an interrupt means: the user's wish to stop a job, or the first step of a kernel's end."""

from __future__ import annotations

import time
from typing import Any

from maas_magics.api.backend import Job
from maas_magics.widgets.kernel import in_kernel, kernel_ends

GRACE = 2.0
"""Seconds in which a kernel that is shut down, or restarted, gets that request after the interrupt that comes first."""


def is_wish(job: Job[Any]) -> bool:
    """Whether the interrupt that was just caught is the user's wish to stop this job.

    A kernel is interrupted before it gets a request to end, and a job that runs elsewhere outlives it. Where there is
    no kernel to end, or the job ends with it, this returns at once; so does a second interrupt.
    """
    if not getattr(job, "outlives", False) or not in_kernel():
        return True
    until = time.monotonic() + GRACE
    try:
        while not kernel_ends():
            if time.monotonic() > until:
                return True
            time.sleep(0.05)
    except KeyboardInterrupt:
        return True
    return False


def stop_if_wished(job: Job[Any]) -> None:
    """Stop a job whose wait was interrupted, unless it is the kernel that ends."""
    if is_wish(job):
        job.stop()
