"""Matrix products of a training on a CPU: which of torch's two libraries takes them.

torch hands products in fp32 to MKL, which keeps to AVX2 on processors of other makers than its own; oneDNN, which takes
torch's convolutions, has kernels for AVX-512 on all of them, and is twice as fast there. torch uses oneDNN where
``torch.backends.mkldnn.matmul.fp32_precision`` lets it round to bf16; on a processor without a unit for such products
it does not round, and the answer is as exact as MKL's, in another order of the sums. Whether that is so here is
measured, and so is whether it is faster. Small products pay more for the call than they gain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from math import prod
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.compat.dispatch import DispatchMode, forget_failed_traces
from maas_magics.core.training.steps.devices import clock_for
from maas_magics.core.training.steps.precision import trial

CALL = 2**20
"""Multiplications of a product on one thread below which oneDNN's call costs more than its kernel brings."""

FASTER = 1.3
"""Times faster than MKL that oneDNN must be."""

EXACT = 1e-5
"""Error of a product, as a share of its largest number, that is still fp32's; that of bf16 is above 1e-3."""

SHAPE = (128, 256, 256)
TIMINGS, PRODUCTS = 7, 3
"""The product that is measured, how often it is timed with each library, and how many make one timing."""

_onednn: Any = torch.backends.mkldnn
_mkl: Any = torch.backends.mkl


class _Products(DispatchMode):  # type: ignore[no-untyped-call]
    """Multiplications of each matrix product within it."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm", "addmm", "baddbmm"):
            left, right = args[-2:]
            if left.dtype == torch.float32:
                self.sizes.append(prod(left.shape) * right.shape[-1])
        return func(*args, **(kwargs or {}))


def onednn_pays(net: nn.Module, example: tuple[Tensor, ...], rows: int) -> bool:
    """Whether the products of a network's steps are faster with oneDNN on this machine, and as exact.

    Parameters
    ----------
    net : nn.Module
        Is left as it is.
    example : tuple of Tensor
        A few rows that it takes.
    rows : int
        Of a batch.
    """
    if not example or example[0].device.type != "cpu" or not _is_free():
        return False
    with _Products() as products:
        failed = trial(net, example)
    if failed is not None:
        forget_failed_traces()
    if failed is not None or not products.sizes:
        return False
    each = sum(products.sizes) / len(products.sizes) * rows / max(1, len(example[0]))
    threads = torch.get_num_threads()
    return each >= CALL * threads and onednn_is_exact() and _is_faster(threads)


@contextmanager
def through_onednn() -> Iterator[None]:
    """Within it the products of the whole process go to oneDNN, unless the user has set how they are computed.

    Only while the lock is held; see `maas_magics.core.tracing`.
    """
    if not _is_free():
        yield
        return
    matmul, other = _onednn.matmul, torch.backends.cuda.matmul
    if torch.cuda.is_available():
        matmul.fp32_precision = "bf16"
    else:  # the older switch, which is also that of CUDA: readers find one word
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        now = matmul.fp32_precision
        if torch.cuda.is_available():
            matmul.fp32_precision = "none" if now == "bf16" else now
        elif now != "tf32":  # else the user has used the older switch meanwhile
            torch.set_float32_matmul_precision("highest")
            matmul.fp32_precision = "none" if now == "bf16" else now
            other.fp32_precision = "none"


def _is_free() -> bool:
    """Whether there are two libraries, and the user has not set how precise products are."""
    if not (_onednn.is_available() and _mkl.is_available()):
        return False
    return getattr(getattr(_onednn, "matmul", None), "fp32_precision", "") == "none"  # torch has it since 2.9


@cache
def onednn_is_exact() -> bool:
    """Whether oneDNN takes products with the exactness of fp32 in this process."""
    x, w = _operands()
    exact = x.double() @ w.double()
    with through_onednn():
        return bool((x @ w - exact).abs().max() < EXACT * exact.abs().max())


@cache
def _is_faster(threads: int) -> bool:
    """Whether oneDNN is faster than MKL in this process; measured once, in milliseconds."""
    x, w = _operands()
    clock = clock_for(x.device, threads)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMINGS):
        for found, other in zip(times, (False, True), strict=True):
            with through_onednn() if other else nullcontext():
                x @ w
                begun = clock()
                for _ in range(PRODUCTS):
                    x @ w
                found.append(clock() - begun)
    mkl, onednn = map(median, times)
    return mkl > FASTER * onednn


def _operands() -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(0)
    rows, width, outputs = SHAPE
    return torch.randn(rows, width, generator=made), torch.randn(width, outputs, generator=made)
