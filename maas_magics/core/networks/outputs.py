"""What a module returns: one tensor, or several in a dict, a tuple or an object of fields."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from maas_magics.api.errors import ModelError, did_you_mean

Key = str | int
"""Key of a dict, name of a field, or place in a tuple."""


class SeveralOutputs(ModelError):
    """A module returns something else than a tensor.

    Parameters
    ----------
    outputs : dict of Key to Tensor
        Tensors in it.
    kind : str
        Its type.
    """

    def __init__(self, outputs: dict[Key, Tensor], kind: str) -> None:
        super().__init__(f"The network returns a {kind}; one tensor was expected.", "Return one tensor.")
        self.outputs, self.kind = outputs, kind


class SeveralHeads(Exception):
    """A module answers several targets, each of which is one of the columns that were named."""


def tensors_of(answers: Any) -> dict[Key, Tensor]:
    """Tensors of what a module returns; what else is in it, as None, is left out."""
    found: Mapping[Any, Any]
    if isinstance(answers, Mapping):
        found = answers
    elif dataclasses.is_dataclass(answers):
        found = {field.name: getattr(answers, field.name) for field in dataclasses.fields(answers)}
    elif isinstance(answers, (tuple, list)) and not any(isinstance(part, (tuple, list)) for part in answers):
        found = dict(enumerate(answers))  # else it is the answer of a layer with its state, as of an LSTM
    else:
        return {}
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}


def only_output(outputs: Mapping[Key, Tensor], kind: str) -> Key:
    """Which of several tensors is the answer to one target: the logits, or the only one that has rows.

    Raises
    ------
    ModelError
        If that cannot be decided.
    """
    if "logits" in outputs:
        return "logits"
    rows = [key for key, value in outputs.items() if value.dim() and key != "loss"]
    if len(rows) == 1:
        return rows[0]
    if not rows:
        raise ModelError(f"The network returns a {kind}; one tensor was expected.", "Return one tensor.")
    shown = ", ".join(repr(key) for key in rows[:8])
    if all(isinstance(key, int) for key in rows):
        raise ModelError(
            f"The network returns a {kind} of {len(rows)} tensors; the target is one.",
            "Return one tensor, or give a target for each: --data X ys, with ys = (y1, y2).",
        )
    raise ModelError(
        f"The network returns a {kind} of {shown}; the target is one.",
        f"Call the answer 'logits', or give a target for each: {{{', '.join(f'{key!r}: …' for key in rows[:3])}}}",
    )


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Which of the tensors that a module returns are those that the targets need.

    Attributes
    ----------
    keys : tuple of Key
    rows : tuple of tuple of int
        Shape of each for a row.
    names : tuple of str
        Of the heads; empty where one tensor answers one target.
    """

    keys: tuple[Key, ...]
    rows: tuple[tuple[int, ...], ...] = ()
    names: tuple[str, ...] = ()


def is_unnamed(heads: Sequence[str]) -> bool:
    """Whether heads have no names but their numbers: y1, y2."""
    return list(heads) == [f"y{i + 1}" for i in range(len(heads))]


def one_tensor(heads: Sequence[str]) -> ModelError:
    """The error of a module that returns one tensor where targets have names, or are several."""
    if len(heads) == 1:
        return ModelError(
            f"The network returns one tensor, of no name; the target is a dict of {heads[0]!r}.",
            f"Give the target's array by itself, or return {{{heads[0]!r}: …}}.",
        )
    return ModelError(
        f"The network returns one tensor; there are {len(heads)} targets: {', '.join(heads)}.",
        f"Return a tensor for each: {{{', '.join(f'{name!r}: …' for name in heads)}}}",
    )


def chosen_outputs(outputs: Mapping[Key, Tensor], kind: str, heads: Sequence[str]) -> Chosen:
    """Which tensor answers each of several targets: the one of its name, or of its place where there are none.

    Parameters
    ----------
    outputs : mapping of Key to Tensor
    kind : str
        Type of what the module answers.
    heads : sequence of str
        Names of the targets.

    Raises
    ------
    ModelError
        If a target has none.
    """
    rows = [key for key, value in outputs.items() if value.dim() and key != "loss"]
    unnamed = is_unnamed(heads) and set(rows) != set(heads)  # names that both sides have are names
    by_place = unnamed or all(isinstance(key, int) for key in rows)
    absent = next((name for name in heads if name not in rows), None)
    keys: tuple[Key, ...] = ()
    if by_place and len(rows) == len(heads):
        keys = tuple(rows)
    elif not by_place and absent is None:
        keys = tuple(heads)
    if keys:
        names = tuple(map(str, keys)) if unnamed and not isinstance(keys[0], int) else tuple(heads)
        return Chosen(keys, tuple(tuple(outputs[key].shape[1:]) for key in keys), names)
    shown = ", ".join(map(str, rows))
    if by_place or absent is None:
        raise ModelError(
            f"The network returns a {kind} of {len(rows)} tensors; there are {len(heads)} targets: {', '.join(heads)}.",
            "Give one target for each tensor, or name both alike in dicts.",
        )
    raise ModelError(
        f"The network returns {shown}; there is no {absent!r} among them, which is a target.",
        did_you_mean(absent, [str(key) for key in rows]),
    )


def pick(net: nn.Module, keys: Sequence[Key], *, joined: bool, rows: tuple[tuple[int, ...], ...] = ()) -> None:
    """Let a module return one tensor: one of those that it returns, or several side by side, (n, numbers).

    Parameters
    ----------
    net : nn.Module
        Its class is changed.
    keys : sequence of Key
    joined : bool
        Whether they stand side by side, however few they are.
    rows : tuple of tuple of int
        Shape of each for a row, where they do.
    """
    import torch

    kind: Any = type(net)
    picked = tuple(keys)

    def forward(self: Any, *arrays: Any, **named: Any) -> Any:
        answers = kind.forward(self, *arrays, **named)
        parts = [_part(answers, key) for key in picked]
        if not joined:
            return parts[0]
        n = (arrays or tuple(named.values()))[0].shape[0]
        return torch.cat([part.reshape(n, -1) for part in parts], dim=1)

    of = getattr(kind, "of", kind)
    members = {"forward": forward, "of": of, "whole": kind, "joined": joined, "rows": rows}
    net.__class__ = type(kind.__name__, (kind,), members | {"__module__": kind.__module__})


def part(net: nn.Module, heads: Mapping[str, tuple[int, ...]]) -> None:
    """Let a module whose answers stand side by side, as `pick` has them, return one for each head, by its name.

    Parameters
    ----------
    net : nn.Module
        Its class is changed.
    heads : mapping of str to tuple of int
        Shape of each for a row.
    """
    kind: Any = type(net)
    shapes = dict(heads)

    def forward(self: Any, *arrays: Any) -> dict[str, Tensor]:
        whole = kind.forward(self, *arrays)
        parts = whole.split([math.prod(shape) for shape in shapes.values()], dim=1)
        return {name: part.reshape(len(part), *shapes[name]) for name, part in zip(shapes, parts, strict=True)}

    members = {"forward": forward, "of": getattr(kind, "of", kind), "__module__": kind.__module__}
    net.__class__ = type(kind.__name__, (kind,), members)


def rows_of(net: nn.Module) -> tuple[tuple[int, ...], ...]:
    """Shape of each head's answer for a row, of a module whose heads stand side by side since `pick`."""
    found: tuple[tuple[int, ...], ...] = getattr(type(net), "rows", ())
    return found


def joins(net: nn.Module) -> bool:
    """Whether a module has several heads, whose outputs stand side by side since `pick`."""
    return bool(getattr(type(net), "joined", False))


def as_written(net: nn.Module) -> nn.Module:
    """A module that returns what its author's code returns, with the same weights; itself where `pick` did nothing."""
    whole = getattr(type(net), "whole", None)
    if whole is None:
        return net
    twin = copy.copy(net)
    twin.__class__ = whole
    return twin


def _part(answers: Any, key: Key) -> Tensor:
    by_key: Any = answers if isinstance(answers, (Mapping, tuple, list)) else None
    found: Tensor = getattr(answers, str(key)) if by_key is None else by_key[key]
    return found


class OneHead(nn.Module):
    """One head of a module whose outputs stand side by side.

    Parameters
    ----------
    net : nn.Module
    begin : int
        Place of its first number.
    row : tuple of int
        Shape of what it answers for a row.
    """

    def __init__(self, net: nn.Module, begin: int, row: tuple[int, ...]) -> None:
        super().__init__()
        self.net, self.begin, self.row = net, begin, row

    def forward(self, *arrays: Tensor) -> Tensor:
        """Its answer, (n, …)."""
        outputs: Tensor = self.net(*arrays)
        part = outputs[:, self.begin : self.begin + math.prod(self.row)]
        return part.reshape(len(part), *self.row)
