"""A version that is an ONNX graph itself, made elsewhere: there is no network of torch behind it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from maas_magics.api.errors import ModelError
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.processor import Processor
from maas_magics.core.model import Model, load_model
from maas_magics.core.runtimes.engine import Engine
from maas_magics.core.store.manifest import Manifest, check_files, read_manifest, read_processor


class GraphModel(Model):
    """A graph that takes raw columns and answers as a task says, asked through ONNX Runtime.

    Parameters
    ----------
    manifest : Manifest
        Of the version.
    processor : Processor
        Its columns.
    file : Path
        The ONNX file, with what lies beside it.
    """

    def __init__(self, manifest: Manifest, processor: Processor, file: Path) -> None:
        self.manifest, self.processor, self.file = manifest, processor, file

    @cached_property
    def engine(self) -> Engine:
        """The graph, open."""
        return Engine(self.file)

    def __getattr__(self, name: str) -> Any:
        if name in ("net", "graph"):
            raise self._networkless()
        raise AttributeError(name)

    def exported(self) -> Any:
        """There is no network to make another export of."""
        raise self._networkless()

    def _networkless(self) -> ModelError:
        name = self.manifest.info.name
        return ModelError(
            f"{name} was imported as a graph of ONNX: there is no network of torch to change or to convert.",
            f"%export {name} --format onnx",
        )

    def renamed(self, name: str, version: int) -> GraphModel:
        """The same graph under another reference."""
        info = msgspec.structs.replace(self.manifest.info, name=name, version=version)
        return GraphModel(msgspec.structs.replace(self.manifest, info=info), self.processor, self.file)

    def run(self, raw: Sequence[Array]) -> Array:
        """Decoded answers of raw arrays."""
        return self.run_hosted(raw)

    def run_hosted(self, arrays: Sequence[Array]) -> Array:
        """Decoded answers of raw arrays."""
        return self.manifest.answers.decoded_from(self.engine.run(arrays))

    def save(self, folder: Path) -> None:
        """Nothing: the graph is an export of the version."""

    def comparable(self, before: Array, after: Array) -> tuple[Array, Array]:
        """Two sets of answers: what is NaN or infinite in both is the same, for a graph may mean it."""
        odd = ~np.isfinite(before)
        same = odd & ((before == after) | (np.isnan(before) & np.isnan(after)))
        return np.where(same, 0, before), np.where(same, 0, after)

    def weights_bytes(self, folder: Path) -> int:
        """Bytes of the graph, and of what lies beside it."""
        return sum(path.stat().st_size for path in self.file.parent.glob(f"{self.file.name}*"))


def open_model(folder: Path, net: torch.nn.Module | None = None) -> Model:
    """Model of a version's folder, whether it is a network of torch or a graph.

    Parameters
    ----------
    folder : Path
        ``…/NAME/VERSION``.
    net : nn.Module, optional
        The trained module, where it is still in memory.
    """
    manifest = read_manifest(folder)
    if not manifest.graph:
        return load_model(folder, net)
    check_files(folder, str(Path(manifest.graph).parent.as_posix()))
    return GraphModel(manifest, read_processor(folder), folder / manifest.graph)
