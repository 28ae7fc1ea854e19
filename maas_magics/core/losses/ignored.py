"""The label that a loss ignores, as ``ignore_index=255``, and what else it says of classes by their place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from maas_magics.api.errors import ModelError
from maas_magics.core.losses.known import Watch, settings_of
from maas_magics.core.networks.blame import name_of
from maas_magics.core.networks.modules import copied, preserve_rng
from maas_magics.core.tasks.base import Task

BY_INDEX = {"cross_entropy", "nll_loss"}
"""Losses of torch's that ignore a label."""

WORDS = BY_INDEX | {"CrossEntropyLoss", "NLLLoss"}

USUAL = -100
"""The label that those ignore by default."""

ROWS, WIDTH, DEPTH = 4, 12, 3


def ignored_by(loss: Any) -> int | None:
    """The label whose rows a loss ignores; None where there is none, or it cannot be found.

    Parameters
    ----------
    loss : str or callable
        One of torch's, or a function or a module that calls one: it is tried on a few numbers.
    """
    name, settings = settings_of(loss) if callable(loss) else ("", {})
    if name:
        return int(settings.get("ignore_index", USUAL)) if name in BY_INDEX else None
    if not callable(loss) or not _speaks_of_classes(loss, DEPTH):
        return None
    outputs = torch.zeros(ROWS, WIDTH)
    watch = Watch(outputs)
    try:
        tried = copied(loss) if isinstance(loss, nn.Module) else loss
        with preserve_rng(), torch.no_grad(), watch:
            tried(outputs, torch.zeros(ROWS, dtype=torch.int64))
    except Exception:  # it may take other shapes; what it called until there was seen
        pass
    return watch.ignored


def _speaks_of_classes(thing: Any, depth: int) -> bool:
    """Whether a function or a module calls a loss that ignores a label, as far as its code shows."""
    if not depth or thing is None:
        return False
    if isinstance(thing, nn.Module):
        kinds = {kind.__name__ for part in thing.modules() for kind in type(part).__mro__}
        return bool(kinds & WORDS) or _speaks_of_classes(type(thing).forward, depth)
    if isinstance(thing, functools.partial):
        return _speaks_of_classes(thing.func, depth)
    if getattr(thing, "__name__", "") in WORDS:
        return True
    if not inspect.isroutine(thing):
        thing = vars(type(thing)).get("__call__")
    code = getattr(thing, "__code__", None)
    if code is None:
        return False
    names = set(_names(code))
    if names & WORDS:
        return True
    known: Mapping[str, Any] = getattr(thing, "__globals__", {})
    held = [cell.cell_contents for cell in getattr(thing, "__closure__", None) or () if cell != type(cell)()]
    reached = [*(known[name] for name in names if name in known), *held]
    return any(_speaks_of_classes(part, depth - 1) for part in reached if _is_own(part))


def _is_own(part: Any) -> bool:
    return isinstance(part, (nn.Module, functools.partial)) or inspect.isfunction(part)


def _names(code: Any) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            yield from _names(constant)


def check_places(loss: Any, settings: Mapping[str, Any], answers: Task, notify: Callable[[str], None]) -> None:
    """Raise `ModelError` where a loss names a class by an index that is another label.

    Parameters
    ----------
    loss : callable
    settings : mapping
        Of the loss of torch's that it is, or calls.
    answers : Task
        Of one label of several.
    notify : callable
        Gets a note on the order of labels that are not numbers.
    """
    classes, weight = answers.classes, settings.get("weight")
    if classes == tuple(range(len(classes))):
        return
    shown = ", ".join(map(str, classes[:8])) + (", …" if len(classes) > 8 else "")
    place = settings.get("ignore_index", USUAL)
    what = ""
    if isinstance(place, int) and 0 <= place < len(classes):
        what = f"ignores the class {place}"
    elif weight is not None and not any(isinstance(label, str) for label in classes):
        what = "has a weight for each class"
    if what:
        raise ModelError(
            f"The loss {name_of(loss)} {what} by its index, 0 to {len(classes) - 1}; the labels are {shown}.",
            f"Number the labels from 0, as np.unique(y, return_inverse=True)[1] does, with {len(classes)} outputs.",
        )
    if weight is not None:
        notify(f"The loss's weights are of the labels in this order: {shown}.")
