"""A trained module as the graph of its answers, beside its weights: what a version keeps of it for other processes.

The archive is a zip file of ``eval.pt2`` and of those tensors that the file of weights does not hold. Like the archives
that are sent, it is read by `filter` alone: nothing in it is unpickled or evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import safetensors.torch
import torch
from torch import Tensor, nn

from maas_magics.api.errors import ModelError
from maas_magics.core.graphs import format as pt2
from maas_magics.core.graphs.export import payload, reason, trace
from maas_magics.core.graphs.filter import MAX_BYTES, MAX_GRAPH_BYTES, check
from maas_magics.core.graphs.format import refuse
from maas_magics.core.graphs.rebuild import GRAPHS, ExportedModule, check_weights, state_paths
from maas_magics.core.networks.modules import baked, preserve_rng

EVAL = GRAPHS[False]

CONSTANTS = "constants.safetensors"

BATCHES = (1, 2, 7)
"""Sizes of the batches that a graph is compared with its module on: a fixed number of rows would show."""


def pack_answers(
    module: nn.Module,
    example: tuple[Tensor, ...],
    saved: Mapping[str, Tensor],
    open_axes: Sequence[Sequence[int]] = (),
) -> bytes:
    """Capture what a module computes for answers.

    Parameters
    ----------
    module : nn.Module
        In eval mode, on the CPU; is left as it is.
    example : tuple of Tensor
        What it takes, two rows or more.
    saved : mapping of str to Tensor
        Weights that are kept beside the archive, by the keys of the module's state.
    open_axes : sequence of sequences of int
        Axes of each input, besides the batch, that may have any length.

    Returns
    -------
    bytes
        An archive for `unpack_answers`.

    Raises
    ------
    Exception
        What torch raises where it cannot capture it, and `ModelError`.
    """
    net = baked(module)
    program = trace(net, example, open_axes)
    paths, weights = state_paths(net)
    for name, tensor in program.constants.items():
        if name not in paths:
            paths[name] = f"constants/{name}"
            weights[paths[name]] = tensor
    graph = payload(program, net, paths)
    own = {
        path: tensor.detach().contiguous().clone()
        for path, tensor in weights.items()
        if path not in saved or not _same(saved[path], tensor)
    }
    return pt2.archive({EVAL: graph, CONSTANTS: safetensors.torch.save(own)})


def unpack_answers(data: bytes, saved: Mapping[str, Tensor]) -> nn.Module:
    """Module of an archive and of the weights that were saved beside it, in eval mode; it has no other.

    Raises
    ------
    ModelError
        If there is anything in it that is not on the lists, or that does not fit the weights.
    """
    try:
        contents = pt2.entries(data, {EVAL: 2 * MAX_GRAPH_BYTES, CONSTANTS: MAX_BYTES})
        checked = {False: check(contents[EVAL])}
        own = safetensors.torch.load(contents[CONSTANTS])
        known = {**saved, **own}
        weights = {part.path: known[part.path] for part in checked[False].parts if part.path in known}
        check_weights(checked, weights)
        return ExportedModule(checked, weights).eval()
    except Exception as error:
        raise ModelError(f"The graph of the network cannot be read: {reason(error)}.", "Train it again.") from error


def compare_answers(module: nn.Module, graph: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Refuse a graph whose outputs for some rows differ from its module's, as with state in Python.

    Parameters
    ----------
    module, graph : nn.Module
        In eval mode.
    inputs : tuple of Tensor
        Rows; the module is run on those of `BATCHES`.

    Raises
    ------
    Refusal
    """
    start = 0
    for size in BATCHES:
        rows = tuple(x[start : start + size] for x in inputs)
        if not len(rows[0]):
            break
        expected, found = (_asked(net, rows) for net in (module, graph))
        if expected.shape != found.shape or not torch.allclose(expected, found, 1e-3, 1e-5, equal_nan=True):
            refuse(f"{EVAL} answers otherwise than the module")
        start += size


def _asked(net: nn.Module, rows: Sequence[Tensor]) -> Tensor:
    with preserve_rng(), torch.no_grad():
        torch.manual_seed(0)
        answers: Tensor = net(*(x.clone() for x in rows))  # it may change what it is handed
    return answers


def _same(saved: Tensor, tensor: Tensor) -> bool:
    """Whether what was saved is what a part of the state holds, which the keys of a module may say otherwise."""
    return (
        saved.dtype == tensor.dtype
        and saved.shape == tensor.shape
        and bool(torch.equal(saved.reshape(-1).view(torch.uint8), tensor.detach().reshape(-1).view(torch.uint8)))
    )
