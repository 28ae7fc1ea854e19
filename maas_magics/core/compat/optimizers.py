"""The shortest ways into torch's backward pass and its optimizers.

Everything here saves time alone: with a torch that goes another way about it, the open way is taken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer

FUSED_ADAM: Callable[..., None] | None = getattr(torch, "_fused_adam_", None)
"""Adam's kernel, for which ``Adam(fused=True)`` is the open way. Seen in torch 2.6 to 2.13; else None."""

FUSED_ADAMW: Callable[..., None] | None = getattr(torch, "_fused_adamw_", None)
"""The same of AdamW. Seen in torch 2.6 to 2.13."""

KEPT_OFF = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
"""Methods of an optimizer that torch keeps its compiler off, for which it imports it at their first call."""

MARK = "__dynamo_disable"
"""Where torch keeps what it calls in their place."""


def backward_engine() -> Callable[..., Any] | None:
    """What ``Tensor.backward`` calls in the end; its checks cost more than the backward pass of a small network.

    Private is ``torch.autograd.Variable._execution_engine``. Seen in torch 2.6 to 2.13.

    Returns
    -------
    callable or None
        ``run((loss,), (gradient,), keep_graph, create_graph, inputs, allow_unreachable, accumulate_grad)``; None where
        torch does not have it.
    """
    engine = getattr(torch.autograd.Variable, "_execution_engine", None)
    found: Callable[..., Any] | None = getattr(engine, "run_backward", None)
    return found


def mark_stepped(optimizer: Optimizer) -> None:
    """Let an optimizer count as one that takes its steps before its scheduler's, as torch warns if it does not.

    Private is ``_opt_called``, which torch sets in the step that it looks for; a kernel that is called directly does
    not. Seen in torch 2.6 to 2.13; where nothing reads it nothing changes.
    """
    optimizer._opt_called = True  # type: ignore[attr-defined]


@contextmanager
def without_compiler() -> Iterator[None]:
    """Within it torch's optimizers do not import torch's compiler, a second of a process's first training.

    Private are ``torch._dynamo`` and the mark by which torch knows that a method was kept off it. Seen in torch 2.6 to
    2.13; else nothing changes but the time. Other trainings may begin and end meanwhile: one of them imports it then.
    """
    marked = []
    if "torch._dynamo" not in sys.modules:
        for name in KEPT_OFF:
            plain = getattr(getattr(Optimizer, name), "__wrapped__", None)
            if plain is not None and not hasattr(plain, MARK):
                setattr(plain, MARK, plain)
                marked.append(plain)
    try:
        yield
    finally:
        for plain in marked:
            delattr(plain, MARK)
