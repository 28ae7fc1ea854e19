"""A trained model in torch: preprocessing, network and postprocessing as one graph from raw columns to answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

import msgspec
import numpy as np
import torch
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor, nn

from maas_magics.api.errors import ModelError
from maas_magics.core.architectures import architectures
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.module import Preprocessing, entered, entered_hosted
from maas_magics.core.features.processor import Processor
from maas_magics.core.seal.files import contents, has_seal, is_sealed, put
from maas_magics.core.store.manifest import PREPROCESS, Manifest, check_files, read_manifest, read_processor

WEIGHTS = "weights.safetensors"

GRAPHS = "graphs.zip"
"""Archive of a module that was sent as its graphs: it can be rebuilt without its source."""

ANSWERS = "answers.zip"
"""Archive of the graph of a module's answers: any process can run it, and export it, without its source."""


class AnswerGraph(nn.Module):
    """Raw columns in, decoded answers out; categories come as int64 codes (n, 1).

    Parameters
    ----------
    transform : Preprocessing
    net : nn.Module
    decode : nn.Module
        From outputs to answers.
    """

    def __init__(self, transform: Preprocessing, net: nn.Module, decode: nn.Module) -> None:
        super().__init__()
        self.transform = transform
        self.net = net
        self.decode = decode

    def forward(self, *columns: Tensor) -> Tensor:
        """Probabilities (n, classes), or predictions (n,) or (n, k)."""
        decoded: Tensor = self.decode(self.net(*self.transform(*columns)), columns[0].shape[0])
        return decoded


class Model:
    """A version of a model, ready to answer through torch.

    Parameters
    ----------
    manifest : Manifest
    processor : Processor
    net : nn.Module
        In eval mode.
    """

    def __init__(self, manifest: Manifest, processor: Processor, net: nn.Module) -> None:
        self.manifest = manifest
        self.processor = processor
        self.net = net
        self.graph = AnswerGraph(Preprocessing(processor), net, manifest.answers.decoder()).eval()
        self.answered: tuple[int, Array] | None = None
        """Answers to the rows that were kept with it, once they were asked, with the `mark` of then."""

    def mark(self) -> int:
        """Checksum of the weights, which are another's once a live module has changed."""
        found = 0
        for name, value in sorted(self.net.state_dict().items()):
            if isinstance(value, Tensor):
                plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                found = crc32(plain.numpy().data, crc32(name.encode(), found))
        return found

    def exported(self) -> AnswerGraph:
        """The graph that an export is made of."""
        from maas_magics.core.networks.modules import baked

        net = baked(self.net)
        return self.graph if net is self.net else AnswerGraph(self.graph.transform, net, self.graph.decode).eval()

    def renamed(self, name: str, version: int) -> Model:
        """The same network under another reference."""
        info = msgspec.structs.replace(self.manifest.info, name=name, version=version)
        return Model(msgspec.structs.replace(self.manifest, info=info), self.processor, self.net)

    @torch.inference_mode()
    def run(self, raw: Sequence[Array]) -> Array:
        """Decoded answers of raw arrays, as `Processor.encode` makes them."""
        return np.asarray(self.graph(*entered(self.processor, raw)).cpu().numpy())

    @torch.inference_mode()
    def run_hosted(self, arrays: Sequence[Array]) -> Array:
        """Decoded answers of arrays that `Processor.hosted_raw` made."""
        return np.asarray(self.graph(*entered_hosted(self.processor, arrays)).cpu().numpy())

    def comparable(self, before: Array, after: Array) -> tuple[Array, Array]:
        """Two sets of answers as they are compared; where a network answers NaN, nothing can be."""
        return before, after

    def weights_bytes(self, folder: Path) -> int:
        """Bytes of the weights in a version's folder."""
        return (folder / WEIGHTS).stat().st_size

    def save(self, folder: Path) -> None:
        """Write the weights, shared and strided ones as plain copies, and the graphs that a module came as."""
        save_weights(self.net, folder / WEIGHTS)
        archive = getattr(self.net, "archive", None)
        if isinstance(archive, bytes):
            put(folder / GRAPHS, archive)


def save_weights(net: nn.Module, file: Path) -> None:
    """Write a module's state as safetensors; extra state of its own that is not a tensor stays with the module."""
    tensors = {name: value for name, value in net.state_dict().items() if isinstance(value, torch.Tensor)}
    found = apart({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    if has_seal(file.parent):
        put(file, save(found))
    else:
        save_file(found, file)


def load_weights(file: Path) -> dict[str, Tensor]:
    """A module's state of a file that `save_weights` wrote.

    Parameters
    ----------
    file : Path
        Encrypted or not.
    """
    return load(contents(file)) if is_sealed(file) else load_file(file)


def apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of which no two share memory: the second one that does is copied, the others are as they are.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Contiguous, on the processor.
    """
    found: dict[str, torch.Tensor] = {}
    end = 0
    for name in sorted(tensors, key=lambda name: tensors[name].data_ptr()):
        tensor = tensors[name]
        begin, size = tensor.data_ptr(), tensor.numel() * tensor.element_size()
        found[name] = tensor if begin >= end else tensor.clone()
        end = max(end, begin + size)
    return {name: found[name] for name in tensors}


def load_model(folder: Path, net: nn.Module | None = None, weights: Path | None = None) -> Model:
    """Model of a version's folder.

    Parameters
    ----------
    folder : Path
    net : nn.Module, optional
        The trained module, where it is still in memory.
    weights : Path, optional
        Weights other than the version's own.

    Raises
    ------
    ModelError
        If the network was defined in a notebook and is not given.
    """
    check_files(folder, WEIGHTS, PREPROCESS, GRAPHS, ANSWERS)
    manifest, processor = read_manifest(folder), read_processor(folder)
    if net is None and (folder / ANSWERS).is_file():
        from maas_magics.core.graphs.answers import unpack_answers

        net = unpack_answers(contents(folder / ANSWERS), load_weights(weights or folder / WEIGHTS))
        net.title = manifest.info.architecture  # type: ignore[assignment]
    if net is None:
        if (folder / GRAPHS).is_file():
            from maas_magics.core.graphs.rebuild import unpack

            net = unpack(contents(folder / GRAPHS))
            net.load_state_dict(load_weights(weights or folder / WEIGHTS))
            return Model(manifest, processor, net.eval())
        if not manifest.declared:
            raise ModelError(
                f"The network of {manifest.info.name!r} was defined in a notebook as {manifest.info.architecture}, "
                "and is not in this process.",
                "It answers through its ONNX export; to change it, run its cell and %train again.",
            )
        net = _built(manifest, processor, load_weights(weights or folder / WEIGHTS))
    return Model(manifest, processor, net.eval())


def _built(manifest: Manifest, processor: Processor, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network of a declared architecture, with its weights, whatever are the defaults by now."""
    architecture = architectures.get(manifest.info.architecture)
    known = {name: value for name, value in manifest.settled.items() if name in architecture.defaults}
    others = () if manifest.settled else architecture.earlier
    for before in others:
        net = architecture.build(processor.inputs, manifest.answers, {**before, **manifest.params})
        if _shapes(net.state_dict()) == _shapes(weights):
            break
    else:
        net = architecture.build(processor.inputs, manifest.answers, {**known, **manifest.params})
    net.load_state_dict(weights)
    return net


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}
