"""How the items of a torch dataset, or the batches of a loader, are laid out: which of it is input, which target.

The first one tells: ``(x, y)`` or ``(x1, x2, y)``, as torch's own datasets have it; ``({"ids": …, "mask": …}, y)``; or
one dict that holds the target too, as those of Hugging Face do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maas_magics.api.errors import DataError, did_you_mean

LABELS = ("labels", "label", "target", "y")
"""Keys that a target has in a dict where nobody names it."""


@dataclass(frozen=True)
class Items:
    """Where inputs and target of an item, or of a batch, are.

    Attributes
    ----------
    names : tuple of str
        Of the inputs, in the order in which the network takes them.
    named : bool
        Whether the inputs are a dict with these keys, rather than tensors in this order.
    target : str
        Key of the target, where it is in the same dict.
    """

    names: tuple[str, ...] = ("x",)
    named: bool = False
    target: str = ""

    def tensors(self, item: Any) -> Sequence[Tensor]:
        """The inputs in order, and the target behind them."""
        if not self.named:
            return item  # type: ignore[no-any-return]
        inputs, target = (item, item[self.target]) if self.target else item
        return [*(_tensor(inputs, name) for name in self.names), _stacked(target)]

    def parted(self, item: Any) -> tuple[tuple[Tensor, ...], Tensor]:
        """The inputs, and the target."""
        *inputs, target = self.tensors(item)
        return tuple(inputs), target

    def in_order(self, names: Sequence[str]) -> Items:
        """The same with the inputs in another order."""
        return replace(self, names=tuple(names))


def items_of(item: Any, target: Any = None, chosen: Mapping[str, str] | None = None) -> Items:
    """The layout of an item, or of a batch.

    Parameters
    ----------
    item : Any
    target : Any
        Key of the target, where somebody named one; `LABELS` are looked for else.
    chosen : mapping of str to str, optional
        Key of the value that each argument of the network gets; all that are no target where there is none.

    Raises
    ------
    DataError
        If it is none that is known here.
    """
    if isinstance(item, Mapping):
        key = target if isinstance(target, str) else next((name for name in LABELS if name in item), "")
        if key not in item:
            keys = [str(name) for name in item]
            near = did_you_mean(key, keys) if key else f"--target KEY, one of: {', '.join(keys[:12])}"
            what = f"no {key!r}" if key else "nothing that is called labels, label, target or y"
            raise DataError(f"Items of the dataset have {what} to be the target.", near)
        return _checked(Items(_keys(item, chosen, key), True, key), item)
    if not isinstance(item, (list, tuple)) or len(item) < 2:
        raise _unknown()
    if len(item) == 2 and isinstance(item[0], Mapping):
        return _checked(Items(_keys(item[0], chosen), True), item)
    if not all(isinstance(part, Tensor) for part in item):
        raise _unknown()
    count = len(item) - 1
    return Items(("x",) if count == 1 else tuple(f"x{i + 1}" for i in range(count)))


def _unknown() -> DataError:
    return DataError(
        "Items of the dataset are no (x, y) of tensors.",
        "Return (x, y), (dict of tensors, y), or one dict with the target among its keys from __getitem__.",
    )


def _keys(inputs: Mapping[Any, Any], chosen: Mapping[str, str] | None, target: str = "") -> tuple[str, ...]:
    if not chosen:
        found = tuple(name for name in inputs if name != target)
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


def _tensor(inputs: Mapping[str, Any], name: str) -> Tensor:
    try:
        value = inputs[name]
    except KeyError:
        raise DataError(
            f"A batch has no {name!r}, which the first one had.", "Return the same keys for every row."
        ) from None
    try:
        return _stacked(value)
    except DataError as error:
        keys = ",".join(f"{key}={key}" for key in inputs if key != name)
        raise DataError(f"{name!r}: {error.message}", f"--inputs {keys} leaves it out." if keys else "") from None


def _stacked(value: Any) -> Tensor:
    """A tensor; torch collates lists of numbers into a list of a tensor for each place."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, Tensor) for part in value):
        return torch.stack(list(value), dim=1)
    kind = type(value[0] if isinstance(value, (list, tuple)) and value else value).__name__
    raise DataError(f"Items of the dataset hold values of type {kind}; tensors were expected.", "")
