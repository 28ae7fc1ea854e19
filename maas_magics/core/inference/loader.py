"""Models in memory, so that asking one twice reads it once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from maas_magics.core.inference.predictor import Predictor
from maas_magics.core.store import Store

if TYPE_CHECKING:
    from maas_magics.core.model import Model

MOST = 16
"""Predictors kept; the one asked longest ago goes first."""


class Loader:
    """Opens versions of a store and keeps them.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._predictors: OrderedDict[tuple[str, int], Predictor] = OrderedDict()
        self._models: OrderedDict[tuple[str, int], Model] = OrderedDict()

    def keep(self, name: str, version: int, model: Model) -> None:
        """Keep a model that was just trained: a notebook's module can be had in no other way."""
        with self._lock:
            self._models[name, version] = model
            rebuilt = [key for key, kept in self._models.items() if kept.manifest.declared]
            for key in rebuilt[: max(0, len(rebuilt) - MOST)]:
                del self._models[key]

    def forget(self, name: str, version: int | None) -> None:
        """Drop predictors of a version that was removed or has a new export; of every version when None."""
        with self._lock:
            for key in [key for key in self._predictors if key[0] == name and version in (None, key[1])]:
                del self._predictors[key]

    def model(self, name: str, version: int) -> Model:
        """The torch model of a version."""
        from maas_magics.core.model import load_model

        with self._lock:
            found = self._models.get((name, version))
        return found if found is not None else load_model(self._store.folder(name, version))

    def predictor(self, ref: str) -> Predictor:
        """What answers for a reference now."""
        key = self._store.resolve(ref)
        found = self._predictors.get(key)
        if found is None:
            folder = self._store.folder(*key)
            found = Predictor(f"{key[0]}:{key[1]}", folder, lambda: self.model(*key))
            with self._lock:
                self._predictors[key] = found
                while len(self._predictors) > MOST:
                    self._predictors.popitem(last=False)
        return found
