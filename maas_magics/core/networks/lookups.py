"""Which arrays a network looks up in tables just as they come, as token ids, and how many rows the smallest has.

An id outside of such a table is an error in torch; in ONNX a negative one is taken for a row from the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from maas_magics.core.compat.dispatch import DispatchMode

SAME = {
    "_to_copy", "alias", "clone", "contiguous", "detach", "expand", "flatten", "permute", "reshape", "select", "slice",
    "squeeze", "t", "transpose", "unsqueeze", "view", "_unsafe_view",
}  # fmt: skip
"""Operators whose result holds nothing but numbers of the first argument."""

TABLES = {"embedding": (0, 1), "_embedding_bag": (0, 1), "_embedding_bag_forward_only": (0, 1)}
"""Places of the table and of the ids among the arguments of operators that look up."""


class _Lookups(DispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, arrays: Sequence[Tensor]) -> None:
        super().__init__()
        self._places = {id(array): place for place, array in enumerate(arrays)}
        self._kept = list(arrays)  # so that no other tensor gets the id of one of them
        self.rows: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in TABLES:
            table, ids = (args[place] for place in TABLES[name])
            place = self._places.get(id(ids))
            if place is not None:
                self.rows[place] = min(len(table), self.rows.get(place, len(table)))
        elif name in SAME and args and id(args[0]) in self._places and isinstance(found, Tensor):
            whole = not (args[0].is_floating_point() or found.is_floating_point())
            if whole and id(found) not in self._places:
                self._places[id(found)] = self._places[id(args[0])]
                self._kept.append(found)
        return found


def looked_up(run: Callable[..., Any], arrays: Sequence[Tensor]) -> dict[int, int]:
    """Rows of the smallest table that each array is looked up in, by its place; those that are not are left out.

    Parameters
    ----------
    run : callable
        Takes the arrays.
    arrays : sequence of Tensor, shape (n, …)
        Some rows.
    """
    seen = _Lookups(arrays)
    with torch.no_grad(), seen:
        run(*arrays)
    return seen.rows
