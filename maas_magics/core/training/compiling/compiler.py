"""Graphs of steps to machine code, in another process, kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maas_magics.api.child import python
from maas_magics.api.errors import IncompatibleVersion
from maas_magics.core.compat.compiled import open_library
from maas_magics.core.training.compiling.compile_process import DONE, FAILED, GRAPH
from maas_magics.core.training.compiling.graph_plain import plain, tensors_of
from maas_magics.core.training.compiling.group_graph import StepGroup

KEPT = 64
"""Compiled graphs that stay in the cache; the oldest go first."""


class CannotCompile(Exception):
    """Why there is no machine code, as a sentence without its full stop."""


def cache() -> Path:
    """Folder of the compiled graphs, which only its owner may write to."""
    from platformdirs import user_cache_path

    place = user_cache_path("maas_magics") / "compiled"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place


def find_compiler() -> str:
    """The C++ compiler that torch would use.

    Raises
    ------
    CannotCompile
        If there is none.
    """
    asked = os.environ.get("CXX")
    for name in (asked,) if asked else ("g++", "clang++", "cl"):
        found = shutil.which(name)
        if found:
            return found
    raise CannotCompile("there is no C++ compiler; apt-get install g++ brings one")


class Compilation:
    """Machine code of one graph, found in the cache or being made.

    Parameters
    ----------
    group : StepGroup
    example : list of Tensor
        What the graph takes.

    Raises
    ------
    CannotCompile
        If there is no compiler, or no place to write to.
    """

    def __init__(self, group: StepGroup, example: list[Tensor]) -> None:
        self.device = example[0].device
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        kinds = [[list(t.shape), list(t.stride()), str(t.dtype).removeprefix("torch."), str(t.device)] for t in example]
        try:
            graph = plain(group.graph)
            self._place = cache() / _key(graph, kinds)
            self.cached = self._whole(self._place) is not None
            if self.cached:
                return
            compiler = find_compiler()
            self._folder = Path(tempfile.mkdtemp(prefix=f"{self._place.name[:16]}-", dir=self._place.parent))
            sent = {"graph": graph, "inputs": kinds, "threads": torch.get_num_threads()}
            torch.save(sent, self._folder / GRAPH)
            self._process = subprocess.Popen(
                python("maas_magics.core.training.compiling.compile_process", str(self._folder)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"CXX": compiler},
            )
        except CannotCompile:
            raise
        except Exception as error:  # a disk that is full, a constant that cannot be written
            self.close()
            raise CannotCompile(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}") from None

    @property
    def ready(self) -> bool:
        """Whether it is there, or came to nothing."""
        return self._process is None or self._process.poll() is not None

    def wait(self) -> None:
        """Wait until it is ready."""
        if self._process is not None:
            self._process.wait()

    def load(self) -> Any:
        """What runs it: ``run(list of tensors) -> list of tensors``.

        Raises
        ------
        CannotCompile
            If it came to nothing.
        """
        folder = self._place
        if self._folder is not None:
            failed = self._folder / FAILED
            if failed.is_file():
                raise CannotCompile(f"the compiler fails: {failed.read_text().rstrip('.')}")
            if self._whole(self._folder) is None:
                raise CannotCompile("the process that compiles ended without an answer")
            try:
                os.rename(self._folder, self._place)
            except OSError:  # another process was faster
                shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
            _prune(self._place.parent)
        library = self._whole(folder)
        if library is None:
            raise CannotCompile("its file is broken")
        os.utime(folder)
        try:
            return open_library(library, self.device)
        except IncompatibleVersion as error:
            raise CannotCompile(error.message.rstrip(".")) from None

    def close(self) -> None:
        """End what still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @staticmethod
    def _whole(folder: Path) -> Path | None:
        """The library of a folder, if it is what was written."""
        try:
            told = json.loads((folder / DONE).read_text())
            library = folder / Path(told["library"]).name
            same = hashlib.sha256(library.read_bytes()).hexdigest() == told["digest"]
        except (OSError, ValueError, KeyError):
            return None
        return library if same else None


def _key(graph: dict[str, Any], kinds: list[Any]) -> str:
    """Digest of everything that decides the machine code."""
    summary = (torch.__version__, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), sys.platform, kinds)
    digest = hashlib.sha256(repr((graph["nodes"], summary)).encode())
    for constant in tensors_of(graph):
        digest.update(repr((constant.shape, constant.dtype)).encode())
        digest.update(constant.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _prune(place: Path) -> None:
    """Remove what was not used for long, and what no one finished."""
    found = sorted((p for p in place.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)
    for number, folder in enumerate(found):
        stale = not (folder / DONE).is_file() and time.time() - folder.stat().st_mtime > 86_400
        if stale or number >= KEPT:
            shutil.rmtree(folder, ignore_errors=True)
