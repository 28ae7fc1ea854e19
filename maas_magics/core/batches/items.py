"""How the items of a torch dataset, or the batches of a loader, are laid out: which of it is input, which target.

The first one decides: ``(x, y)`` or ``(x1, x2, y)``, as in torch's own datasets; ``({"ids": …, "mask": …}, y)``; or
one dict that holds the target too, as those of Hugging Face do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maas_magics.api.errors import DataError, did_you_mean

Key = str | int
"""Key of a dict, or place in a tuple."""

LABELS = ("labels", "label", "target", "y")
"""Keys that a target has in a dict where no one names it."""


@dataclass(frozen=True)
class Items:
    """Where inputs and target of an item, or of a batch, are.

    Attributes
    ----------
    names : tuple of str
        Of the inputs, in the order in which the network takes them.
    named : bool
        Whether the inputs are a dict with these keys, rather than tensors in this order.
    whole : bool
        Whether the same dict holds the target.
    keys : tuple of Key
        Where the target is, or each of several: in the whole dict, or in a dict or tuple of its own. None where it is
        a tensor by itself.
    heads : tuple of str
        Names of several targets; none of one.
    """

    names: tuple[str, ...] = ("x",)
    named: bool = False
    whole: bool = False
    keys: tuple[Key, ...] = ()
    heads: tuple[str, ...] = ()

    def tensors(self, item: Any) -> Sequence[Tensor]:
        """The inputs in order, and the target, or each of several, behind them."""
        if not self.named and not self.keys:
            return item  # type: ignore[no-any-return]
        inputs = item if self.whole else item[0] if self.named else item[:-1]
        target = item if self.whole else item[-1]
        found = [_tensor(inputs, name) for name in self.names] if self.named else list(inputs)
        return [*found, *([_tensor(target, key) for key in self.keys] if self.keys else [_stacked(target)])]

    def finished(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        """Inputs, and the target, or a tuple of several, of tensors in their order."""
        if not self.heads:
            *inputs, target = tensors
            return inputs, target
        count = len(tensors) - len(self.heads)
        return list(tensors[:count]), tuple(tensors[count:])

    def parted(self, item: Any) -> tuple[tuple[Tensor, ...], Any]:
        """The inputs, and the target, or a tuple of several."""
        inputs, target = self.finished(self.tensors(item))
        return tuple(inputs), target

    def targets_of(self, target: Any) -> tuple[Tensor, ...]:
        """Each target, of one or of several."""
        return target if self.heads else (target,)

    def in_order(self, names: Sequence[str]) -> Items:
        """The same with the inputs in another order."""
        return replace(self, names=tuple(names))


def items_of(item: Any, target: Any = None, chosen: Mapping[str, str] | None = None) -> Items:
    """The layout of an item, or of a batch.

    Parameters
    ----------
    item : Any
    target : Any
        Key of the target, where someone named one; `LABELS` are looked for else.
    chosen : mapping of str to str, optional
        Key of the value that each argument of the network gets; all but the target where there is none.

    Raises
    ------
    DataError
        If it is none that is known here.
    """
    if isinstance(item, Mapping):
        keys = (target,) if isinstance(target, str) else tuple(target or ())
        keys = keys or tuple(name for name in LABELS if name in item)[:1]
        absent = next((str(key) for key in keys if key not in item), "")
        if absent or not keys:
            there = [str(name) for name in item]
            near = did_you_mean(absent, there) if absent else f"--target KEY, one of: {', '.join(there[:12])}"
            what = f"no {absent!r}" if absent else "nothing that is called labels, label, target or y"
            raise DataError(f"Items of the dataset have {what} to be the target.", near)
        heads = tuple(map(str, keys)) if len(keys) > 1 else ()
        return _checked(Items(_keys(item, chosen, keys), True, True, keys, heads), item)
    if not isinstance(item, (list, tuple)) or len(item) < 2:
        raise _unknown()
    if len(item) == 2 and isinstance(item[0], Mapping):
        return _checked(Items(_keys(item[0], chosen), True, False, *_several(item[1])), item)
    several = _several(item[-1])
    if not all(isinstance(part, Tensor) for part in (item[:-1] if several[0] else item)):
        raise _unknown()
    count = len(item) - 1
    return _checked(
        Items(("x",) if count == 1 else tuple(f"x{i + 1}" for i in range(count)), False, False, *several), item
    )


def _several(target: Any) -> tuple[tuple[Key, ...], tuple[str, ...]]:
    """Keys and names of several targets; none of one."""
    if isinstance(target, Mapping):
        return tuple(target), tuple(map(str, target)) if len(target) > 1 else ()
    if isinstance(target, (list, tuple)) and len(target) > 1:
        return tuple(range(len(target))), tuple(f"y{i + 1}" for i in range(len(target)))
    return (), ()


def _unknown() -> DataError:
    return DataError(
        "Each item of the dataset must be a pair (x, y) of tensors.",
        "Return (x, y), (dict of tensors, y), or one dict with the target among its keys from __getitem__.",
    )


def _keys(
    inputs: Mapping[Any, Any], chosen: Mapping[str, str] | None, targets: tuple[Key, ...] = ()
) -> tuple[str, ...]:
    if not chosen:
        found = tuple(name for name in inputs if name not in targets)
        if not found:
            raise DataError("Items of the dataset have no input beside the target.", "Return at least one more key.")
        return found
    absent = next((key for key in chosen.values() if key not in inputs), None)
    if absent is not None:
        raise DataError(f"Items of the dataset have no {absent!r}.", did_you_mean(absent, [str(key) for key in inputs]))
    return tuple(chosen.values())


def _checked(items: Items, item: Any) -> Items:
    items.tensors(item)
    return items


def _tensor(inputs: Any, name: Key) -> Tensor:
    try:
        value = inputs[name]
    except (KeyError, IndexError):
        raise DataError(
            f"A batch has no {name!r}, which the first one had.", "Return the same keys for every row."
        ) from None
    try:
        return _stacked(value)
    except DataError as error:
        others = [key for key in inputs if key != name] if isinstance(inputs, Mapping) else []
        keys = ",".join(f"{key}={key}" for key in others)
        raise DataError(f"{name!r}: {error.message}", f"--inputs {keys} leaves it out." if keys else "") from None


def _stacked(value: Any) -> Tensor:
    """A tensor; torch collates lists of numbers into a list of a tensor for each place."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, Tensor) for part in value):
        return torch.stack(list(value), dim=1)
    kind = type(value[0] if isinstance(value, (list, tuple)) and value else value).__name__
    raise DataError(f"Items of the dataset hold values of type {kind}; tensors were expected.", "")
