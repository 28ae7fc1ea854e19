"""Between torch's functions and what they run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from maas_magics.api.errors import incompatible

try:
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
except ImportError:
    raise incompatible("torch", "torch.utils._python_dispatch and torch.utils._pytree", "Training") from None


class DispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Base of a context that sees every operator that runs within it, in ``__torch_dispatch__``.

    Private are the base class, which torch's own tutorials use, and the question that keeps torch from importing its
    compiler, which takes a second, only to keep it off that method. Seen in torch 2.6 to 2.13; the question since 2.7,
    and versions without it do not import the compiler.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Tensors in nested tuples, lists and dicts.

    Private is ``torch.utils._pytree``, which knows every container that operators take. Seen in torch 2.6 to 2.13.
    """
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def without_overrides() -> AbstractContextManager[None]:
    """Within it functions of torch are not handed to modes and subclasses that look on.

    Private is ``torch._C.DisableTorchFunction``, the only way for a ``TorchFunctionMode`` to use torch itself without
    seeing its own calls. Seen in torch 2.6 to 2.13.
    """
    found: AbstractContextManager[None] = torch._C.DisableTorchFunction()
    return found


def forget_failed_traces() -> None:
    """Have torch's compiler begin anew, where it is loaded: a torch.cond that failed in a mode would fail ever after.

    Which of its modules is loaded with it is private. Seen in torch 2.13.
    """
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
