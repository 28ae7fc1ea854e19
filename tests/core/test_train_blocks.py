"""Rows on disk: each once an epoch, in an order that the generator alone decides, and none left behind."""

from __future__ import annotations

import os
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from maas_magics.api.errors import StoreError
from maas_magics.core.batches.batches import InMemory
from maas_magics.core.batches.blocks import Blocks, Spill, TensorLayout, check_room

CPU = torch.device("cpu")
KINDS = (
    TensorLayout(torch.float32, torch.float32, (3,)),
    TensorLayout(torch.int16, torch.int64, (2,)),
    TensorLayout(torch.int32, torch.int64, ()),
)


def rows(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    number = torch.arange(n)
    return (
        number[:, None] + torch.tensor([0.0, 0.25, 0.5]),
        torch.stack([number % 500, number % 7], dim=1),
        number * 3,
    )


def spilled(folder: Path, n: int, at_a_time: int = 10) -> Spill:
    spill = Spill(folder, KINDS)
    made = rows(n)
    for start in range(0, n, at_a_time):
        spill.append([values[start : start + at_a_time] for values in made])
    return spill


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


SIZES = [(100, 8, 10, 3), (100, 8, 7, 1), (97, 32, 5, 4), (97, 8, 97, 1), (33, 8, 4, 3), (50, 40, 3, 2), (5, 8, 2, 2)]


@pytest.mark.parametrize(("n", "batch", "block", "window"), SIZES)
def test_each_row_comes_once_and_whole(n: int, batch: int, block: int, window: int, tmp_path: Path) -> None:
    with spilled(tmp_path, n) as spill:
        blocks = Blocks(spill, batch, CPU, block, window)
        found = list(blocks.epoch(seeded()))
        memory = InMemory(rows(n)[:2], rows(n)[2], batch)
        assert [len(target) for _, target in found] == [len(target) for _, target in memory.epoch(seeded())]
        assert len(found) == blocks.steps == memory.steps and blocks.rows == n
        number = torch.cat([target for _, target in found]) // 3
        assert len(set(number.tolist())) == len(number)
        whole = rows(n)
        for index in (0, 1):
            got = torch.cat([inputs[index] for inputs, _ in found])
            assert got.dtype == whole[index].dtype and torch.equal(got, whole[index][number])
        assert n < 10 or number.tolist() != sorted(number.tolist())


@pytest.mark.parametrize(("n", "batch", "block", "window"), SIZES)
def test_the_rest_of_an_epoch_is_that_of_the_whole_one(
    n: int, batch: int, block: int, window: int, tmp_path: Path
) -> None:
    with spilled(tmp_path, n) as spill:
        blocks = Blocks(spill, batch, CPU, block, window)
        for start in range(blocks.steps + 1):
            one, other = seeded(), seeded()
            rest, expected = list(blocks.epoch(one, start)), list(islice(blocks.epoch(other), start, None))
            assert [t.tolist() for _, t in rest] == [t.tolist() for _, t in expected]
            assert torch.equal(one.get_state(), other.get_state())


def test_a_later_start_reads_none_of_the_windows_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with spilled(tmp_path, 100) as spill:
        read: list[int] = []
        plain = Spill.read
        monkeypatch.setattr(Spill, "read", lambda self, blocks: read.append(len(blocks)) or plain(self, blocks))
        assert len(list(Blocks(spill, 10, CPU, block=10, window=2).epoch(seeded(), 7))) == 3
        assert len(read) == 2


def test_in_one_window_the_order_is_the_one_of_memory(tmp_path: Path) -> None:
    with spilled(tmp_path, 97) as spill:
        memory = InMemory(rows(97)[:2], rows(97)[2], 8)
        one, other = seeded(), seeded()
        for _ in range(2):  # epochs
            for (_, mine), (_, theirs) in zip(
                Blocks(spill, 8, CPU, 10, 10).epoch(one), memory.epoch(other), strict=True
            ):
                assert torch.equal(mine, theirs)


def test_in_order_is_in_order(tmp_path: Path) -> None:
    with spilled(tmp_path, 1300) as spill:
        found = list(Blocks(spill, 8, CPU, block=11, window=9).whole())
        assert [len(target) for _, target in found] == [512, 512, 276]
        assert torch.equal(torch.cat([target for _, target in found]), rows(1300)[2])


def test_epochs_differ_and_mix_what_was_apart(tmp_path: Path) -> None:
    with spilled(tmp_path, 1000) as spill:
        blocks, generator = Blocks(spill, 50, CPU, block=20, window=5), seeded()
        first, second = (torch.cat([t for _, t in blocks.epoch(generator)]) // 3 for _ in range(2))
        assert not torch.equal(first, second)
        # Each window of a hundred rows holds five blocks; were they neighbours, it would span a hundred places.
        spans = [int(part.max() - part.min()) for part in first.split(100)]
        assert np.median(spans) > 500


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nothing_has_a_name_and_closing_gives_the_room_back(tmp_path: Path) -> None:
    def held() -> int:
        links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
        return sum(str(tmp_path) in os.readlink(link) for link in links if link.is_symlink())

    spill = spilled(tmp_path, 50)
    assert held() == 3 and not list(tmp_path.iterdir())
    spill.close()
    assert held() == 0


def test_a_disk_that_is_too_small_is_told_beforehand(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="take 931322574.6 GiB of disk") as caught:
        check_room(tmp_path / "not" / "yet", 10**18)
    assert "MAAS_STORE" in caught.value.hint
    check_room(tmp_path, 1)
    assert not list(tmp_path.iterdir())
