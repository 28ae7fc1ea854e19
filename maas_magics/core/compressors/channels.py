"""Which layers of a network can lose channels, and a network without the least of them, by torch-pruning.

Not a compressor: it registers nothing. The layers that hang together (a product and what reads its answers, all that is
added to one stream) lose the same channels. Whether some can is found by trying on a copy: it must still answer, in the
same shape. So layers whose width stands in a network's code, as that of attention in heads, and those that answer stay.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from maas_magics.api.errors import ExportError

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Kinds of layers whose output channels are pruned; others lose what hangs together with them."""


def without_channels(net: nn.Module, share: float, example: tuple[Tensor, ...]) -> nn.Module:
    """A copy of a network whose layers have lost the channels of least magnitude.

    Parameters
    ----------
    net : nn.Module
        In eval mode; it stays as it is.
    share : float
        Of the channels of each layer.
    example : tuple of Tensor
        What the network takes, of a few rows.

    Raises
    ------
    ExportError
        If no layer can lose any.
    """
    import torch_pruning

    named: dict[nn.Module, str] = {layer: name for name, layer in net.named_modules() if isinstance(layer, LAYERS)}
    expected, able, stay = net(*example).shape, 0, []
    for names in _groups(net, example, named):
        if _can_lose(net, names[0], share, example, expected):
            able += 1
        else:
            stay += names
    if not able:
        raise ExportError(
            f"prune finds no layer that can lose channels, of {len(named)} linear and convolutional ones.",
            "Export it without prune.",
        )
    smaller = copy.deepcopy(net).requires_grad_()
    pruner = torch_pruning.pruner.BasePruner(
        smaller,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=[smaller.get_submodule(name) for name in stay],
        root_module_types=list(LAYERS),
    )
    pruner.step()
    if smaller(*example).shape != expected:
        raise ExportError("prune leaves a network that answers in another shape.", "Export it without prune.")
    return smaller.eval()


def what_stayed(before: nn.Module, after: nn.Module) -> tuple[float, list[str]]:
    """Share of the weights that are as many as before, and the layers that have them, the largest first.

    Parameters
    ----------
    before, after : nn.Module
        A network, and what `without_channels` made of it.
    """
    known = dict(after.named_parameters())
    kept = {name: one.numel() for name, one in before.named_parameters() if known[name].shape == one.shape}
    layers: dict[str, int] = {}
    for name, numbers in kept.items():
        layer = name.rpartition(".")[0]
        layers[layer] = layers.get(layer, 0) + numbers
    total = sum(one.numel() for one in before.parameters())
    return sum(kept.values()) / total, sorted(layers, key=lambda layer: -layers[layer])


def _groups(net: nn.Module, example: tuple[Tensor, ...], named: dict[nn.Module, str]) -> list[list[str]]:
    """Names of layers that lose channels together."""
    import torch_pruning

    graph = torch_pruning.DependencyGraph().build_dependency(net, example_inputs=example)
    found = []
    for group in graph.get_all_groups(root_module_types=list(LAYERS)):
        outputs = [each.dep.target.module for each in group if graph.is_out_channel_pruning_fn(each.dep.handler)]
        names = [named[layer] for layer in outputs if layer in named]
        found.append(list(dict.fromkeys(names)))
    return [names for names in found if names]


def _can_lose(net: nn.Module, name: str, share: float, example: tuple[Tensor, ...], expected: Any) -> bool:
    """Whether a copy without some channels of a layer still answers in the same shape."""
    import torch_pruning

    tried = copy.deepcopy(net).requires_grad_()
    layer = tried.get_submodule(name)
    channels: int = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels  # type: ignore[assignment]
    lost = int(channels * share)
    if not lost:
        return False
    prune = torch_pruning.prune_linear_out_channels
    if not isinstance(layer, nn.Linear):
        prune = torch_pruning.prune_conv_out_channels
    try:
        graph = torch_pruning.DependencyGraph().build_dependency(tried, example_inputs=example)
        group = graph.get_pruning_group(layer, prune, idxs=list(range(lost)))
        if not graph.check_pruning_group(group):
            return False
        group.prune()
        return bool(tried(*example).shape == expected)
    except Exception:  # whatever a network raises whose layers do not fit together any more
        return False
