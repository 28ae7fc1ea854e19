"""A model of these tests' own that answers in several passes, and the runtime that opens it, as another package would bring it.

The next symbol hangs on all before it: a number that is kept in the state is a row of a table of logits. What happens is
written into the folder that ``SYMBOLS`` names: ``states`` that are there, a line in ``steps`` for each pass with how many
it stepped. While there is a file ``hold`` there, a step waits.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maas_magics.api.errors import OptionError
from maas_magics.api.results import ModelInfo
from maas_magics.api.signature import Signature, TensorSpec
from maas_magics.core.runtimes import Choice
from maas_magics.core.store.manifest import Manifest, seal, write_plain_manifest
from maas_magics.core.store.models import Store
from maas_magics.core.store.storage import staging
from maas_magics.core.tasks.multiclass import Multiclass

STATES, LETTERS = 97, "·abcdefghijklmnopqrstuvwxyz"
"""The first symbol ends an answer."""

POISON = 13
"""A prompt that begins with it fails in its third pass."""

PART = 4
"""Symbols of a prompt read in one pass."""

_lock = threading.Lock()
_states = 0


def folder() -> Path:
    return Path(os.environ["SYMBOLS"])


def _count(by: int) -> None:
    global _states
    with _lock:
        _states += by
        (folder() / "states.new").write_text(str(_states))
        (folder() / "states.new").replace(folder() / "states")


class SymbolState:
    def __init__(self, prompt: list[int]) -> None:
        self.left = list(prompt)
        self.size = len(prompt)
        self.poisoned = prompt[:1] == [POISON]
        self.at = self.passes = 0
        _count(1)

    def feed(self, value: int) -> None:
        self.at = (31 * self.at + value + 7) % STATES

    def close(self) -> None:
        _count(-1)


class SymbolSampler:
    def __init__(self, seed: int | None, stop: int, wide: int = 1) -> None:
        self.rng = None if seed is None else np.random.default_rng(seed)
        self.stop = stop
        self.wide = wide

    def choose(self, output: Any) -> Choice:
        noise = 0.0 if self.rng is None else self.rng.gumbel(size=len(output))
        symbol = int(np.argmax(output + noise))
        return Choice(symbol, LETTERS[symbol] * self.wide, "stop" if symbol == self.stop else "")


class SymbolSession:
    slots = 8

    def __init__(self, table: Any) -> None:
        self.table = table

    def sampler(self, params: Mapping[str, Any]) -> SymbolSampler:
        if unknown := sorted(params.keys() - {"seed", "stop", "wide"}):
            raise OptionError(f"There is no parameter {unknown[0]!r}.", "There is: 'seed', 'stop', 'wide'.")
        return SymbolSampler(params.get("seed"), params.get("stop", 0), params.get("wide", 1))

    def start(self, inputs: Sequence[Any]) -> SymbolState:
        return SymbolState(inputs[0][0].tolist())

    def step(self, states: Sequence[SymbolState]) -> list[Any]:
        while (folder() / "hold").exists():
            time.sleep(0.005)
        if any(state.poisoned and state.passes == 2 for state in states):
            raise RuntimeError("a poisoned prompt")
        with open(folder() / "steps", "a") as log:
            log.write(f"{len(states)}\n")
        outputs = []
        for state in states:
            part, state.left = state.left[:PART], state.left[PART:]
            for symbol in part:
                state.feed(symbol)
            state.passes += 1
            outputs.append(None if state.left else self.table[state.at])
        return outputs


class SymbolRuntime:
    def open(self, folder: Path, shared: bool) -> SymbolSession:
        return SymbolSession(np.load(folder / "table.npy"))


class SumSession:
    """Answers in one pass: twice the sum of a row."""

    def run(self, inputs: Sequence[Any]) -> dict[str, Any]:
        return {"prediction": 2 * inputs[0].sum(axis=1)}


class SumRuntime:
    def open(self, folder: Path, shared: bool) -> SumSession:
        return SumSession()


def publish(place: Path, name: str = "symbols", runtime: str = "symbols") -> None:
    """Put a version of the model into a store."""
    store = Store(str(place))
    ids = TensorSpec("ids", "INT64", (-1, -1))
    info = ModelInfo(
        name=name, version=0, task="generation", architecture="table", iterative=True,
        signature=Signature((ids,), (TensorSpec("symbol", "BYTES", (-1,)),)),
    )  # fmt: skip
    with staging(store.work) as work:
        staged = work / "version"
        staged.mkdir()
        np.save(staged / "table.npy", np.random.default_rng(5).normal(size=(STATES, len(LETTERS))))
        write_plain_manifest(staged, Manifest(info=info, answers=Multiclass(("symbol",)), runtime=runtime))
        seal(staged)
        store.storage.publish(name, staged)


def expected(prompt: Sequence[int], steps: int, seed: int | None = None, stop: int = 0) -> str:
    """What the model answers, worked out here."""
    table = np.random.default_rng(5).normal(size=(STATES, len(LETTERS)))
    sampler, at, told = SymbolSampler(seed, stop), 0, ""
    for symbol in prompt:
        at = (31 * at + symbol + 7) % STATES
    while len(told) < steps:
        choice = sampler.choose(table[at])
        told += choice.delta
        if choice.finish:
            break
        at = (31 * at + choice.value + 7) % STATES
    return told


class Watched:
    """What the model says of itself.

    Parameters
    ----------
    folder : Path
        That ``SYMBOLS`` names.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    @property
    def states(self) -> int:
        file = self.folder / "states"
        return int(file.read_text()) if file.exists() else 0

    @property
    def steps(self) -> list[int]:
        file = self.folder / "steps"
        return [int(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []

    def forget(self) -> None:
        """Count passes anew."""
        (self.folder / "steps").unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have every step wait meanwhile."""
        (self.folder / "hold").touch()
        try:
            yield
        finally:
            (self.folder / "hold").unlink()


@contextmanager
def installed(place: Path) -> Iterator[Watched]:
    """The package is installed, here and in the processes that are started meanwhile."""
    install(place / "installed")
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(place / "installed"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        patch.setenv("SYMBOLS", str(place / "watched"))
        patch.syspath_prepend(paths[0])
        yield Watched(place / "watched")


def install(place: Path) -> None:
    """Write what a package manager writes of a package that brings the runtime."""
    info = place / "maas_symbols-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: maas-symbols\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[maas_magics.runtimes]\nsymbols = symbols:SymbolRuntime\nsums = symbols:SumRuntime\n"
    )
