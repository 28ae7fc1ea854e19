"""Models in memory, so that one that is used twice is read once."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maas_magics.api.errors import MaasError, ModelClosed
from maas_magics.api.signature import TensorSpec
from maas_magics.api.sizes import kv_bytes
from maas_magics.core.generation.loop import Loop
from maas_magics.core.inference.hardened import Harden
from maas_magics.core.inference.later import add_export, is_awaited
from maas_magics.core.inference.predictor import Predictor
from maas_magics.core.inference.sessions import open_iterative
from maas_magics.core.runtimes import IterativeSession
from maas_magics.core.store.models import Store

if TYPE_CHECKING:
    from maas_magics.core.model import Model

MOST = 16
"""Predictors kept; the least recently used goes first."""


@dataclass(frozen=True)
class Generator:
    """A model that is open, and answers in several passes.

    Attributes
    ----------
    loop : Loop
    inputs : tuple of TensorSpec
    size : int
        Bytes of its files.
    """

    loop: Loop
    inputs: tuple[TensorSpec, ...]
    size: int


class Loader:
    """Opens versions of a store and keeps them.

    Parameters
    ----------
    store : Store
    memory : float
        Bytes of weights kept open; the least recently used version goes first.
    shared : bool
        See `Engine`.
    kv_memory : int or None
        Bytes of keys and values of each model that writes; by the variable ``MAAS_KV_MEMORY``, or the usual bound, when
        None.
    harden : Harden, optional
        What is kept of answers in one pass; all where it is not given.
    """

    def __init__(
        self,
        store: Store,
        memory: float = math.inf,
        shared: bool = False,
        kv_memory: int | None = None,
        harden: Harden | None = None,
    ) -> None:
        self._harden = harden
        self._store = store
        self._lock = threading.Lock()
        self.memory = memory
        self._kv_memory = kv_memory
        self._kv_memories: dict[tuple[str, int], int] = {}
        """Of those that were loaded with one of their own."""
        self._shared = shared
        self._predictors: OrderedDict[tuple[str, int, str], Predictor] = OrderedDict()
        self._sizes: dict[tuple[str, int, str], int] = {}
        self._closed: set[tuple[str, int]] = set()
        self._generators: OrderedDict[tuple[str, int, str], Generator] = OrderedDict()
        self._loops: weakref.WeakSet[Loop] = weakref.WeakSet()
        """Also those that another one took the place of, while something is on its way there."""
        self._opening: dict[tuple[str, int, str], threading.Lock] = {}
        self._end: MaasError | None = None
        self._models: OrderedDict[tuple[str, int], Model] = OrderedDict()
        self._exporting = threading.Lock()
        self._unexportable: set[tuple[str, int]] = set()
        self._in_background: set[tuple[str, int]] = set()
        """Versions whose exports are being made while torch answers."""

    def keep(self, name: str, version: int, model: Model) -> None:
        """Keep a model that was just trained: a notebook's module can be had in no other way."""
        with self._lock:
            self._models[name, version] = model
            rebuilt = [key for key, kept in self._models.items() if kept.manifest.declared]
            for key in rebuilt[: max(0, len(rebuilt) - MOST)]:
                del self._models[key]

    def move(self, name: str, version: int, to: str, number: int) -> None:
        """Keep a model under another name, and drop everything of the old one."""
        with self._lock:
            found = self._models.get((name, version))
            for key in [key for key in self._models if key[0] == name]:
                del self._models[key]
        self.forget(name, None)
        if found is not None:
            self.keep(to, number, found.renamed(to, number))

    def forget(self, name: str, version: int | None) -> None:
        """Drop predictors of a version that was removed or has a new export; of every version when None."""
        with self._lock:
            for key in [key for key in self._predictors if key[0] == name and version in (None, key[1])]:
                del self._predictors[key]
                self._sizes.pop(key, None)
            for key in [key for key in self._generators if key[0] == name and version in (None, key[1])]:
                del self._generators[key]

    def model(self, name: str, version: int) -> Model:
        """The torch model of a version."""
        from maas_magics.core.graph_model import open_model

        with self._lock:
            found = self._models.get((name, version))
        return found if found is not None else open_model(self._store.folder(name, version))

    def predictor(self, ref: str) -> Predictor:
        """What answers for a reference now.

        Raises
        ------
        ModelClosed
            If it was closed.
        """
        key = self._store.find(ref)
        found = self._predictors.get(key)
        if found is not None:
            with contextlib.suppress(KeyError):
                self._predictors.move_to_end(key)
            return found
        if key[:2] in self._closed:
            raise ModelClosed(f"The model {key[0]}:{key[1]} is not loaded.", "Load it first.")
        return self._open(key[:2], key[2])

    def generator(self, ref: str) -> Generator | None:
        """What generates for a reference now; None where a model answers in one pass.

        Raises
        ------
        ModelClosed
            If it was closed.
        """
        key = self._store.find(ref)
        if key[:2] in self._closed:
            raise ModelClosed(f"The model {key[0]}:{key[1]} is not loaded.", "Load it first.")
        if (*key[:2], "") in self._predictors:
            return None
        found = self._generators.get(key)
        if found is None:
            with self._lock:
                opening = self._opening.setdefault(key, threading.Lock())
            with opening:  # many requests may come at once, and such models are large
                found = self._generators.get(key) or self._open_generator(key)
            self._opening.pop(key, None)
        return found

    def _open_generator(self, key: tuple[str, int, str]) -> Generator | None:
        name, version, variant = key
        folder = self._store.folder(name, version)
        opened = open_iterative(folder, self._shared, variant, self._kv_bytes(name, version))
        if opened is None:
            return None
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        ref = f"{name}:{version}" + (f"@{variant}" if variant else "")
        found = Generator(Loop(opened[0], ref), opened[1], size)
        with self._lock:
            if self._end is not None:
                found.loop.end(self._end)
            self._generators[key] = found
            self._loops.add(found.loop)
            for each in [each for each, one in self._generators.items() if one.loop.idle and each != key]:
                if len(self._generators) > MOST or self._held() > self.memory:
                    del self._generators[each]
        return found

    def _kv_bytes(self, name: str, version: int) -> int | None:
        """Bytes of keys and values of a model at most; None where nothing was said."""
        said = os.environ.get("MAAS_KV_MEMORY", "")
        usual = kv_bytes(said) if self._kv_memory is None and said else self._kv_memory
        return self._kv_memories.get((name, version), usual)

    def _held(self) -> int:
        """Bytes of weights that are open."""
        return sum(self._sizes.values()) + sum(one.size for one in self._generators.values())

    def watched(self, session: IterativeSession, ref: str) -> Loop:
        """A loop of its own for one answer, which ends as those of models that generate do."""
        loop = Loop(session, ref)
        with self._lock:
            if self._end is not None:
                loop.end(self._end)
            self._loops.add(loop)
        return loop

    def loops(self) -> list[Loop]:
        """Loops of the models that generate."""
        with self._lock:
            return list(self._loops)

    def end_generations(self, error: MaasError) -> None:
        """End every answer that comes in chunks, now and later, with an error."""
        with self._lock:
            self._end = error
        for loop in self.loops():
            loop.end(error)

    def _open(self, key: tuple[str, int], variant: str = "", wait: bool = False) -> Predictor:
        """Open a version, in place of the one that may be open; requests to that one still get their answers.

        The graph of a module's answers is opened where its export is still to be made, which then begins; where
        ``wait``, and in a process that would import torch for it, the export is made first.
        """
        folder = self._store.folder(*key)
        meanwhile = False
        if is_awaited(folder) and key not in self._models and key not in self._unexportable:
            meanwhile = not wait and (self._shared or "torch" in sys.modules)
            if not meanwhile and self._export(key):
                folder = self._store.folder(*key)
        ref = f"{key[0]}:{key[1]}" + (f"@{variant}" if variant else "")
        found = Predictor(ref, folder, lambda: self._answering(key, folder), self._shared, variant, self._harden)
        if meanwhile and not is_awaited(self._store.folder(*key)):  # it was made while the graph was opened
            return self._open(key, variant)
        with self._lock:
            self._predictors[*key, variant] = found
            self._sizes[*key, variant] = found.size
            while len(self._predictors) > 1 and (len(self._predictors) > MOST or self._held() > self.memory):
                self._sizes.pop(self._predictors.popitem(last=False)[0])
        if meanwhile:
            self._begin_export(key)
        return found

    def _begin_export(self, key: tuple[str, int]) -> None:
        """Make the export of a module while the graph of its answers is what answers."""
        with self._lock:
            if key in self._in_background:
                return
            self._in_background.add(key)
        logging.getLogger(__name__).info("%s:%d is answered by torch until its ONNX export is made", *key)

        def make() -> None:
            try:
                if self._export(key) and (*key, "") in self._predictors:
                    self._open(key)
            except Exception as error:  # the version was removed meanwhile, or its files were; the graph answers on
                logging.getLogger(__name__).info("the ONNX export of %s:%d was not made: %s", *key, error)
            finally:
                self._in_background.discard(key)

        threading.Thread(target=make, name="export", daemon=True).start()

    def _export(self, key: tuple[str, int]) -> bool:
        """Make the export of a module that another process has trained; once, however many wait for it."""
        with self._exporting:
            if key in self._unexportable or not is_awaited(self._store.folder(*key)):
                return True
            if not add_export(self._store, *key):
                self._unexportable.add(key)
                return False
        return True

    def _answering(self, key: tuple[str, int], folder: Path) -> Model:
        """The torch model that answers: of a module its graph, which no later change to the module reaches."""
        if not is_awaited(folder):
            return self.model(*key)
        from maas_magics.core.model import load_model

        return load_model(folder)

    def opened(self, ref: str) -> bool:
        """Whether a reference names a version that is open now."""
        return self._store.find(ref) in self._predictors

    def load(self, ref: str, kv_memory: int | None = None) -> None:
        """Open a version, anew if it is open; undoes `unload`.

        Parameters
        ----------
        ref : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        kv_memory : int or None
            Bytes of its keys and values from here on; as before when None.
        """
        key = self._store.find(ref)
        if kv_memory is not None:
            self._kv_memories[key[:2]] = kv_memory
        self._generators.pop(key, None)
        if self._open_generator(key) is None:
            self._open(key[:2], key[2], wait=True)
        self._closed.discard(key[:2])

    def unload(self, ref: str) -> None:
        """Close a version (``NAME:3``), or every version of a model (``NAME``), until it is loaded again."""
        name, version = self._store.resolve(ref)
        versions = self._store.storage.versions(name) if ref == name else [version]
        self._closed.update((name, number) for number in versions)
        self.forget(name, None if ref == name else version)
        refs = {f"{name}:{number}" for number in versions}
        for loop in self.loops():
            if loop.ref.partition("@")[0] in refs:
                loop.end(ModelClosed(f"The model {loop.ref} was unloaded.", "Load it, and try again."))

    def loaded(self) -> dict[str, bool]:
        """Versions that are open (True), or were closed (False)."""
        with self._lock:
            states = dict.fromkeys(self._closed, False) | dict.fromkeys((key[:2] for key in self._predictors), True)
            states |= dict.fromkeys((key[:2] for key in self._generators), True)
        return {f"{name}:{version}": open for (name, version), open in states.items()}
