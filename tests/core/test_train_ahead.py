"""One batch is on its way before the one before it is handed out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from maas_magics.core.batches.ahead import on_device, one_ahead


class Source:
    """Numbers, a note of what was taken, and whether it was closed."""

    def __init__(self, stop: int, fails: bool = False) -> None:
        self.stop, self.fails, self.closed = stop, fails, False
        self.taken: list[int] = []

    def __iter__(self) -> Iterator[int]:
        try:
            for number in range(self.stop):
                self.taken.append(number)
                yield number
            if self.fails:
                raise ValueError("broken")
        finally:
            self.closed = True


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_everything_comes_in_order_and_one_is_sent_before(count: int) -> None:
    source, sent = Source(count), []

    def send(item: int) -> int:
        sent.append(item)
        return 10 * item

    found = []
    for item in one_ahead(source, send):
        found.append(item)
        assert sent == list(range(min(count, len(found) + 1)))
    assert found == [10 * number for number in range(count)]
    assert source.closed


def test_an_error_comes_after_what_was_before_it() -> None:
    source = Source(3, fails=True)
    batches = one_ahead(source, lambda item: item)
    found = [next(batches) for _ in range(3)]
    with pytest.raises(ValueError, match="broken"):
        next(batches)
    assert found == [0, 1, 2]
    assert source.closed


def test_a_failed_copy_comes_after_what_was_before_it() -> None:
    def send(item: int) -> int:
        if item == 2:
            raise RuntimeError("no memory")
        return item

    source = Source(5)
    batches = one_ahead(source, send)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(RuntimeError, match="no memory"):
        next(batches)
    assert source.closed


def test_stopping_closes_the_source() -> None:
    source = Source(9)
    batches = one_ahead(source, lambda item: item)
    assert next(batches) == 0
    assert source.taken == [0, 1]
    batches.close()  # type: ignore[attr-defined]
    assert source.closed


def test_on_a_cpu_nothing_is_read_before_it_is_asked_for() -> None:
    taken: list[int] = []

    def batches() -> Iterator[list[Any]]:
        for number in range(3):
            taken.append(number)
            yield [torch.full((2,), number), torch.ones(2)]

    found = on_device(batches(), torch.device("cpu"), lambda tensors: int(tensors[0][0]))
    assert taken == []
    assert (next(found), taken) == (0, [0])
    assert list(found) == [1, 2]
