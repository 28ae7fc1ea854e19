"""torch's compiler, called below its front door: a whole group of training steps is one graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from maas_magics.api.errors import incompatible

PURPOSE = "Compiling steps"


def load_operators() -> Any:
    """Load the operators of the compiler's own that graphs may name; returns its table of decompositions.

    Private is ``torch._inductor``; ``torch.compile`` offers neither. Takes about a second. Seen in torch 2.6 to 2.13.

    Raises
    ------
    IncompatibleVersion
        If torch has them no more.
    """
    try:
        import torch._inductor.lowering  # noqa: F401 - its import registers them
        from torch._inductor.decomposition import select_decomp_table
    except ImportError:
        raise incompatible("torch", "torch._inductor.decomposition", PURPOSE) from None
    return select_decomp_table()


def operators_graph(function: Callable[..., Any], example: list[Tensor], decompositions: Any = None) -> GraphModule:
    """Graph of the tensor operators that a function runs; nothing is computed.

    Private are ``torch.fx.experimental.proxy_tensor`` and its option for constants that the function holds, which
    ``torch.export`` makes inputs of. Seen in torch 2.6 to 2.13.

    Parameters
    ----------
    function : callable
    example : list of Tensor
        What it takes.
    decompositions : table, optional
        Operators that are decomposed into simpler ones; see `load_operators`.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    make: Any = make_fx(function, decompositions, tracing_mode="fake", _allow_non_fake_inputs=True)
    found: GraphModule = make(*example)
    return found


def compile_library(graph: GraphModule, example: tuple[Tensor, ...], library: Path) -> Path:
    """Machine code of a graph, as a shared library; returns where it lies.

    Private are ``torch._inductor.aot_compile`` and the names of its options: the open way packs the library into an
    archive, and takes graphs of ``torch.export`` alone. Seen in torch 2.6 to 2.13.

    Raises
    ------
    IncompatibleVersion
        If torch has it no more.
    """
    try:
        from torch._inductor import aot_compile
    except ImportError:
        raise incompatible("torch", "torch._inductor.aot_compile", PURPOSE) from None
    options = {"aot_inductor.output_path": str(library), "aot_inductor.compile_wrapper_opt_level": "O1"}
    return Path(str(aot_compile(graph, example, options=options)))


def open_library(library: Path, device: torch.device) -> Any:
    """What runs such a library: ``run(list of tensors) -> list of tensors``.

    Private is ``torch._C._aoti``. Seen in torch 2.6 to 2.13.

    Raises
    ------
    IncompatibleVersion
        If torch has it no more.
    """
    name = f"AOTIModelContainerRunner{'Cuda' if device.type == 'cuda' else 'Cpu'}"
    runner = getattr(getattr(torch._C, "_aoti", None), name, None)
    if runner is None:
        raise incompatible("torch", f"torch._C._aoti.{name}", PURPOSE)
    if device.type == "cuda":
        return runner(str(library), 1, str(device), str(library.parent))
    return runner(str(library), 1)
