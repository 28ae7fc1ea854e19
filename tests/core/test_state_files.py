"""Checkpoints and weights as files: whole, digested, readable as they were written before."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.serialization import get_crc32_options

from maas_magics.api.errors import StoreError
from maas_magics.core.model import apart, save_weights
from maas_magics.core.training.checkpoint import DIGEST, FILES, Checkpoints


def state(step: int = 3) -> dict[str, object]:
    return {"step": step, "epoch": 1, "net": {"w": torch.arange(10_000.0), "empty": torch.zeros(0)}, "chosen": {}}


def test_a_checkpoint_begins_with_the_digest_of_the_rest(tmp_path: Path) -> None:
    checksums = get_crc32_options()
    kept = Checkpoints(tmp_path)
    kept.save(state())
    data = (tmp_path / FILES[0]).read_bytes()
    assert hashlib.sha256(data[DIGEST:]).digest() == data[:DIGEST]
    found, broken = Checkpoints(tmp_path).newest()
    assert broken == 0 and found is not None and found["net"]["w"].equal(torch.arange(10_000.0))
    assert get_crc32_options() == checksums
    kept.save(state(4))
    (tmp_path / FILES[1]).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    found, broken = Checkpoints(tmp_path).newest()
    assert broken == 1 and found is not None and found["step"] == 3


def test_a_checkpoint_written_in_one_piece_is_read(tmp_path: Path) -> None:
    packed = io.BytesIO()
    torch.save(state(), packed)
    data = packed.getvalue()
    (tmp_path / FILES[0]).write_bytes(hashlib.sha256(data).digest() + data)
    found, broken = Checkpoints(tmp_path).newest()
    assert broken == 0 and found is not None and found["step"] == 3


def test_a_state_that_cannot_be_packed_leaves_nothing_and_the_one_before(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(state())
    (tmp_path / FILES[1]).mkdir()  # the file cannot take this place
    with pytest.raises(StoreError, match="cannot be written"):
        kept.save(state(4))
    assert not list(tmp_path.glob("*.part"))
    (tmp_path / FILES[1]).rmdir()
    found, _ = Checkpoints(tmp_path).newest()
    assert found is not None and found["step"] == 3


def test_weights_that_share_memory_are_written_as_what_they_are(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight  # tied
    flat = torch.arange(25.0)
    net[0].bias.data, net[1].bias.data = flat[:4], flat[4:8]  # side by side in one tensor
    for name, value in {
        "part": flat[2:6], "empty": torch.zeros(0), "turned": torch.randn(3, 4).t(), "every": flat[::5],
        "one": torch.tensor(3),
    }.items():  # fmt: skip
        net.register_buffer(name, value)
    save_weights(net, tmp_path / "w.safetensors")
    found, expected = load_file(tmp_path / "w.safetensors"), net.state_dict()
    assert found.keys() == expected.keys()
    assert all(found[name].equal(value) for name, value in expected.items())


def test_weights_of_their_own_are_not_copied() -> None:
    first, second = torch.zeros(8), torch.ones(8)
    found = apart({"b": second, "a": first, "again": first[2:]})
    assert found["a"].data_ptr() == first.data_ptr() and found["b"].data_ptr() == second.data_ptr()
    assert found["again"].data_ptr() != first[2:].data_ptr() and list(found) == ["b", "a", "again"]
