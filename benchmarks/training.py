"""Samples a CPU second trains on, beside the bare PyTorch loop and other libraries."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

from benchmarks.measure import cpu, in_turns, missing, ratios, table

PEERS = (
    "bare",
    "ours_alone",
    "ours_fast",
    "ours",
    "skorch",
    "accelerate",
    "fabric",
    "lightning",
    "hf_trainer",
    "fastai",
    "keras",
    "sklearn_mlp",
)
ROUNDS = 3
THREADS = (1, 2)
TARGETS = ("≥ 1.8", "≥ 3.5", "≥ 1.4", "≥ 1.05")
FAST_TARGETS = ("≥ 2.5", "≥ 12", "≥ 2.5", "≥ 1.5")


def column(work: Any, peers: list[ModuleType]) -> dict[str, float]:
    """Samples per CPU second over the bare loop's, by peer."""

    def training(peer: ModuleType, size: Any) -> float:
        own: list[float | None] = []
        whole = cpu(lambda: own.append(peer.fit(size)))
        return whole if own[0] is None else own[0]

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
    import torch

    from benchmarks.workloads import workloads

    peers, absent = [], []
    for name in PEERS:
        peer = import_module(f"benchmarks.peers.{name}")
        lacking = missing(*peer.PACKAGES)
        absent += [f"{peer.NAME} (pip install {' '.join(lacking)})"] if lacking else []
        peers += [] if lacking else [peer]
    compiling: dict[str, tuple[float, str]] = import_module("benchmarks.peers.ours_fast").compiling
    with tempfile.TemporaryDirectory() as store:
        os.environ |= {"MAAS_STORE": store, "MAAS_UI": "static", "XDG_CACHE_HOME": store}
        works = workloads()
        for threads in THREADS:
            torch.set_num_threads(threads)
            compiling.clear()
            told(threads, works, peers, [column(work, peers) for work in works], compiling)
    if absent:
        print(f"\nNot installed, so left out: {', '.join(absent)}.")


def told(
    threads: int,
    works: list[Any],
    peers: list[ModuleType],
    columns: list[dict[str, float]],
    compiling: dict[str, tuple[float, str]],
) -> None:
    """Print the table for a number of threads."""
    rows = [
        [peer.NAME, *(f"{found[peer.NAME]:.2f}" if peer.NAME in found else "–" for found in columns)] for peer in peers
    ]
    targets = [["target for training alone", *TARGETS], ["target for `--fast auto`", *FAST_TARGETS]]
    own = "" if threads == 1 else "Ours chooses how many of them it takes. "
    table(
        f"Training: samples per CPU second over the bare PyTorch loop's, {threads} thread{'s' if threads > 1 else ''}",
        ("", *(work.name for work in works)),
        [*rows, *(targets if threads == 1 else [])],
        f"Medians of {ROUNDS} trainings in turns in one process, Adam, validation after each epoch. {own}"
        "Every row is a whole call, but for “training alone”: that is from the first step to the end of the last "
        "epoch. The whole call of ours also captures the graph of the network, so that it can be asked without its "
        "code: a fixed cost, a large share of trainings as short as these. The ONNX export is made from that graph when "
        "another process first needs it, and is not in it. `--fast auto` is measured once its steps are "
        "compiled, which other processes do meanwhile: "
        + "; ".join(f"{name}: {seconds:.0f} CPU seconds ({chosen})" for name, (seconds, chosen) in compiling.items())
        + ".",
    )
