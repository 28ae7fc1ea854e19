"""Samples a CPU second trains on, beside the bare PyTorch loop and other libraries."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

from benchmarks.measure import cpu, in_turns, missing, ratios, table

PEERS = ("bare", "ours", "skorch", "accelerate", "lightning", "hf_trainer", "fastai", "keras", "sklearn_mlp")
ROUNDS = 3
TARGETS = ("≥ 1.6", "≥ 2", "", "")


def column(work: Any, peers: list[ModuleType]) -> dict[str, float]:
    """Samples per CPU second over the bare loop's, by peer."""

    def training(peer: ModuleType, size: Any) -> float:
        return cpu(lambda: peer.fit(size))

    able = []
    for peer in peers:
        try:
            training(peer, replace(work, x=work.x[:256], y=work.y[:256], epochs=1))  # imports, caches
            able.append(peer)
        except NotImplementedError:
            continue
    found = in_turns({peer.NAME: lambda peer=peer: training(peer, work) for peer in able}, ROUNDS)
    return {name: 1 / ratio for name, ratio in ratios(found, peers[0].NAME).items()}


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from benchmarks.workloads import workloads

    torch.set_num_threads(1)
    peers, absent = [], []
    for name in PEERS:
        peer = import_module(f"benchmarks.peers.{name}")
        lacking = missing(*peer.PACKAGES)
        absent += [f"{peer.NAME} (pip install {' '.join(lacking)})"] if lacking else []
        peers += [] if lacking else [peer]
    with tempfile.TemporaryDirectory() as store:
        os.environ |= {"MAAS_STORE": store, "MAAS_UI": "static"}
        works = workloads()
        columns = [column(work, peers) for work in works]
    rows = [
        [peer.NAME, *(f"{found[peer.NAME]:.2f}" if peer.NAME in found else "–" for found in columns)] for peer in peers
    ]
    table(
        "Training: samples per CPU second over the bare PyTorch loop's",
        ("", *(work.name for work in works)),
        [*rows, ["target for maas.train", *TARGETS]],
        f"Medians of {ROUNDS} whole trainings in turns in one process, one thread, Adam, validation after each epoch; "
        "nothing is subtracted: ours prepares the rows and publishes the model within its time."
        + (f" Not installed, so left out: {', '.join(absent)}." if absent else ""),
    )
