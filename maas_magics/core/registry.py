"""Names for factories: one class for every kind of extension."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from maas_magics.api.errors import NotFound, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to objects, filled by the modules of one package on first use.

    Parameters
    ----------
    kind : str
        What it holds, for messages: ``"architecture"``.
    package : str
        Package whose modules register themselves when imported.
    group : str
        Group of entry points by which other packages add theirs; none where it is empty.
    """

    def __init__(self, kind: str, package: str, group: str = "") -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._loaded = False
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that registers an object under a name; a name that is taken is refused.

        Parameters
        ----------
        name : str
            Name to register.
        """

        def file(thing: T) -> T:
            if name in self._entries:
                raise ValueError(f"the {self.kind} {name!r} is registered already")
            self._entries[name] = thing
            return thing

        return file

    def get(self, name: str) -> T:
        """The object under a name, or `NotFound` with the choices.

        Parameters
        ----------
        name : str
            A registered name.
        """
        if name not in self._entries:
            self._load(name)
        if name not in self._entries:
            self._load()
        if name not in self._entries and name in (points := self._points()):
            self._entries[name] = points[name].load()  # what is ours goes first
        try:
            return self._entries[name]
        except KeyError:
            raise NotFound(f"There is no {self.kind} {name!r}.", did_you_mean(name, self.names())) from None

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        self._load()
        return sorted({*self._entries, *self._points()})

    def _points(self) -> dict[str, EntryPoint]:
        """What other packages bring, not imported before it is requested."""
        return dict(_points_of(self._group, _places())) if self._group else {}

    def __iter__(self) -> Iterator[str]:
        """Names of ours, then of what other packages bring, which are not looked for before."""
        self._load()
        own = sorted(self._entries)
        yield from own
        yield from sorted(self._points().keys() - set(own))

    def _load(self, only: str = "") -> None:
        """Import every module of the package, or just the one of that name, which is where a thing stands as a rule."""
        if self._loaded or only in self._entries:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            if only in ("", module.name):
                importlib.import_module(f"{self._package}.{module.name}")
        self._loaded = self._loaded or not only


def _places() -> tuple[tuple[str, int], ...]:
    """Where packages are looked for, and when each was changed last: one that is installed or removed changes it."""
    found = []
    for place in sys.path:
        try:
            found.append((place, os.stat(place or ".").st_mtime_ns))
        except OSError:
            continue
    return tuple(found)


@lru_cache(maxsize=32)
def _points_of(group: str, places: tuple[tuple[str, int], ...]) -> Mapping[str, EntryPoint]:
    """Entry points of a group by name: to look for them, files of every package are read."""
    return {point.name: point for point in entry_points(group=group)}
