"""A module of the user's as two graphs, for training and for answers: packed here, and opened on another machine.

The archive is a zip file of ``train.pt2`` and ``eval.pt2``, which hold no weights, and ``weights.safetensors``. Nothing
that comes out of one is unpickled or evaluated; see `graph_filter`.
"""

from __future__ import annotations

from collections.abc import Sequence

import safetensors.torch
import torch
from torch import Tensor, nn

from maas_magics.api.errors import ModelError
from maas_magics.core.compat.export import shapes_only
from maas_magics.core.compat.modules import MovedModule
from maas_magics.core.graphs import format as pt2
from maas_magics.core.graphs.export import move, payload, reason, trace
from maas_magics.core.graphs.filter import MAX_BYTES, MAX_GRAPH_BYTES, Checked, GraphState, Kind, check
from maas_magics.core.graphs.format import refuse
from maas_magics.core.networks.modules import copied
from maas_magics.core.tracing import suppress_torch_logging, tracing_lock

GRAPHS = {True: "train.pt2", False: "eval.pt2"}
"""Entry of the graph of each mode."""

WEIGHTS = "weights.safetensors"

ROWS = 2

LENGTH = 5
"""Of axes that are free, where shapes are tried."""
"""Least rows of an example; one would be taken for a constant."""


class ExportedModule(MovedModule):
    """A module that computes by graphs, one in training mode and one in eval mode, over one state.

    The keys of its state are those of the module that the graphs were made of.

    Parameters
    ----------
    checked : dict of bool to Checked
        The graph of each mode, both of the same state; the one for answers may stand alone.
    weights : dict of str to Tensor
        By the paths of the parts of the state.
    """

    def __init__(self, checked: dict[bool, Checked], weights: dict[str, Tensor]) -> None:
        super().__init__()
        self._graphs = {mode: found.graph for mode, found in checked.items()}
        self._sources: dict[bool, list[tuple[nn.Module, str]]] = {}
        made: dict[str, Tensor] = {}
        places: dict[tuple[str, str], tuple[nn.Module, str]] = {}
        for mode, found in checked.items():
            for part in found.parts:
                if (part.name, part.path) not in places:
                    tensor = made.setdefault(part.path, _as_part(weights[part.path], part))
                    name = part.name or f"_constants.c{len(places)}"
                    places[part.name, part.path] = self._place(name, tensor, part.persistent)
            self._sources[mode] = [places[part.name, part.path] for part in found.parts]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Answer of the graph of the mode.

        Raises
        ------
        ModelError
            In training mode, where only the graph for answers was kept.
        """
        if self.training not in self._graphs:
            raise ModelError(
                "This network was published as the graph of its answers: it cannot be trained further.",
                "Run the cell that makes it, and give that module to %train.",
            )
        state = [getattr(owner, name) for owner, name in self._sources[self.training]]
        answer: Tensor = self._graphs[self.training](*state, *inputs)
        return answer

    def _place(self, name: str, tensor: Tensor, persistent: bool) -> tuple[nn.Module, str]:
        """Register a tensor by its key, below modules that only hold others."""
        *path, leaf = name.split(".")
        owner: nn.Module = self
        for step in path:
            if not isinstance(getattr(owner, step, None), nn.Module):
                owner.add_module(step, nn.Module())
            owner = owner.get_submodule(step)
        if isinstance(tensor, nn.Parameter):
            owner.register_parameter(leaf, tensor)
        else:
            owner.register_buffer(leaf, tensor, persistent)
        return owner, leaf

    def moved(self) -> None:
        """What the graphs make themselves follows the state to its device."""
        device = next((tensor.device for tensor in (*self.parameters(), *self.buffers())), None)
        for graph in self._graphs.values():
            if device is not None:
                move(graph, device)


def pack(module: nn.Module, example: tuple[Tensor, ...], open_axes: Sequence[Sequence[int]] = ()) -> bytes:
    """Export a module for training and for answers.

    Parameters
    ----------
    module : nn.Module
        Is left as it is. Its lazy layers have got their shapes.
    example : tuple of Tensor
        What it takes, two rows or more. The graphs are compared with the module on them.
    open_axes : sequence of sequences of int
        Axes of each input, besides the batch, that may have any length.

    Returns
    -------
    bytes
        An archive for `unpack`, the same each time.

    Raises
    ------
    ModelError
        If torch cannot trace it, if it uses something that `unpack` does not accept, or if it computes something
        that is not in its graphs.
    """
    kind = type(module).__name__
    if not example or any(x.dim() == 0 or len(x) < ROWS or len(x) != len(example[0]) for x in example):
        raise ModelError(
            f"The example of what {kind} takes has too few rows.", f"Give {ROWS} rows or more, the same in each input."
        )
    try:
        with tracing_lock():
            net = copied(module)
            programs = {mode: trace(net.train(mode), example, open_axes) for mode in GRAPHS}
            data = _archive(net, programs)
            _compare(net, _open(data), example)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{kind} cannot be sent: {reason(error)}.", "Train it in this kernel.") from error
    return data


def unpack(data: bytes) -> nn.Module:
    """Module of an archive that may come from anyone.

    What it computes is not executed yet; only shapes run through its graphs. How long and in how much memory its
    graphs run is for the process to limit that calls this.

    Raises
    ------
    ModelError
        If there is anything in it that is not on the lists, or that does not fit together.
    """
    try:
        return _open(data)
    except Exception as error:
        raise ModelError(f"The uploaded graph was refused: {reason(error)}.", "Send the module again.") from error


def _archive(module: nn.Module, programs: dict[bool, torch.export.ExportedProgram]) -> bytes:
    """Graphs and state as one file; tied tensors, and constants of both graphs, are in it once."""
    paths, weights = state_paths(module)
    contents = {}
    for mode, program in programs.items():
        local = dict(paths)
        other = programs[not mode].constants
        for name, tensor in program.constants.items():
            if name not in paths:
                same = name not in other or torch.equal(other[name], tensor)
                local[name] = f"constants/{name}" if same else f"constants/{GRAPHS[mode]}/{name}"
                weights[local[name]] = tensor
        contents[GRAPHS[mode]] = payload(program, module, local)
    plain = {path: tensor.detach().cpu().contiguous().clone() for path, tensor in weights.items()}
    return pt2.archive({**contents, WEIGHTS: safetensors.torch.save(plain)})


def state_paths(module: nn.Module) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Path of each part of the state, which tied tensors share, and the tensor of each path."""
    first: dict[int, str] = {}
    paths: dict[str, str] = {}
    weights: dict[str, Tensor] = {}
    for name, tensor in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        paths[name] = first.setdefault(id(tensor), name)
        weights[paths[name]] = tensor
    return paths, weights


def _compare(module: nn.Module, exported: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Refuse graphs that answer or learn otherwise than the module: with a backward of its own, or state in Python."""
    exported.to(example[0].device)
    for mode, name in GRAPHS.items():
        found = []
        for net in (module, exported):
            with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))), torch.enable_grad():
                torch.manual_seed(0)
                answer = net.train(mode)(*example)
            found.append([answer])
            weights = [p for p in net.parameters() if p.requires_grad]
            if answer.requires_grad and weights:
                loss = answer.square().mean()
                found[-1] += torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        if any(not torch.allclose(a, b, 1e-3, 1e-5, equal_nan=True) for a, b in zip(*found, strict=True)):
            refuse(f"{name} computes something else than the module, whose backward or state may be of its own making")


def _open(data: bytes) -> ExportedModule:
    """Module of an archive, or any exception."""
    if len(data) > MAX_BYTES:
        refuse(f"it is larger than {MAX_BYTES:,} bytes")
    contents = pt2.entries(data, {**dict.fromkeys(GRAPHS.values(), 2 * MAX_GRAPH_BYTES), WEIGHTS: MAX_BYTES})
    checked = {mode: check(contents[name]) for mode, name in GRAPHS.items()}
    train, answer = ({part.name: part for part in found.parts if part.name} for found in checked.values())
    if train != answer or checked[True].inputs != checked[False].inputs:
        refuse("its two graphs are not of one module")
    weights = {path: tensor.clone() for path, tensor in safetensors.torch.load(contents[WEIGHTS]).items()}
    check_weights(checked, weights)
    for found in checked.values():
        _try(found)
    return ExportedModule(checked, weights)


def check_weights(checked: dict[bool, Checked], weights: dict[str, Tensor]) -> None:
    """Refuse tensors that are not those of the parts of the state, one for each path."""
    parts = [part for found in checked.values() for part in found.parts]
    kinds = {part.path: (part.parameter, part.kind) for part in parts}
    if any(kinds[part.path] != (part.parameter, part.kind) for part in parts):
        refuse("tensors that are tied differ in kind")
    told = {path: (kind.dtype, kind.shape) for path, (_, kind) in kinds.items()}
    if told != {path: (tensor.dtype, tuple(tensor.shape)) for path, tensor in weights.items()}:
        refuse("its weights do not fit its graphs")


def _as_part(tensor: Tensor, part: GraphState) -> Tensor:
    return nn.Parameter(tensor, part.kind.requires_grad) if part.parameter else tensor


def _try(checked: Checked) -> None:
    """Let shapes run through a graph, without data."""

    def empty(kind: Kind, *rows: int) -> Tensor:
        shape = (LENGTH + sum(rows) if size < 0 else size for size in kind.shape)
        return torch.empty((*rows, *shape), dtype=kind.dtype)

    with tracing_lock(), suppress_torch_logging(), shapes_only(), torch.no_grad():
        for rows in (ROWS, ROWS + 1):
            state = (empty(part.kind) for part in checked.parts)
            answer = checked.graph(*state, *(empty(kind, rows) for kind in checked.inputs))
            if not isinstance(answer, Tensor):
                refuse("it answers something else than a tensor")
