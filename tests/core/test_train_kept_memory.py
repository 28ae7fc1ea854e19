"""Rows of an evaluation batch, memory that stays from step to step, and the clock of trials."""

from __future__ import annotations

import platform
import subprocess
import sys
import time

import pytest
import torch

from maas_magics.core.batches.batches import MEASURE_ROWS, InMemory, rows_at_once
from maas_magics.core.training.steps.devices import clock_for

FAULTS = """
import resource, torch
from maas_magics.core.training.steps.devices import keep_freed_memory
torch.set_num_threads(1)
keep_freed_memory()
def step():
    parts = [torch.ones(4 * 2**20) for _ in range(3)]  # 16 MB each
for _ in range(8):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
BLOCK_PAGES = 4096
"""Pages of 4 KB in 16 MB."""


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(64,)], MEASURE_ROWS),
        ([(1, 28, 28)], 83),
        ([(3, 512, 512)], 1),
        ([(4, 4)], MEASURE_ROWS),
        ([(7,), (16, 32)], 128),
    ],
)
def test_rows_of_an_evaluation_batch_fit_a_cache(shapes: list[tuple[int, ...]], expected: int) -> None:
    assert rows_at_once(tuple(torch.zeros(3, *shape) for shape in shapes)) == expected


def test_an_evaluation_batch_has_a_training_batch_at_least() -> None:
    x = torch.zeros(40, 3, 512, 64)
    batches = InMemory((x,), torch.zeros(40), 16, measure=rows_at_once((x,)))
    assert [len(target) for _, target in batches.whole()] == [16, 16, 8]
    assert rows_at_once((x[:0],)) == MEASURE_ROWS


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is how glibc keeps memory")
def test_memory_that_a_step_frees_is_there_for_the_next_one() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < BLOCK_PAGES


def test_two_ways_on_one_thread_are_compared_by_the_time_that_it_had() -> None:
    clock = clock_for(torch.device("cpu"), 1)
    begun, waited = clock(), time.perf_counter()
    time.sleep(0.05)
    assert clock() - begun < time.perf_counter() - waited
    assert clock_for(torch.device("cpu"), 2) is clock_for(torch.device("cuda"), 1) is time.perf_counter
