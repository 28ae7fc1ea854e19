"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from maas_magics.core.training.steps.optimizers import Optimizer


class EMA:
    """Mean of the weights over the steps, m ← d · m + (1 − d) · w, as ``torch.optim.swa_utils`` does it.

    It begins with the weights after the first step. Buffers, such as the statistics of batch-norms, are not averaged.

    Parameters
    ----------
    optimizer : Optimizer
        Its weights are the ones averaged.
    decay : float
        0 < d < 1.
    """

    def __init__(self, optimizer: Optimizer, decay: float) -> None:
        self._weights = [p.detach() for group in optimizer.inner.param_groups for p in group["params"]]
        self._mean: list[Tensor] = []
        self._merge = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def update(self) -> None:
        """Take the present weights into the mean."""
        if self._mean:
            self._merge(self._mean, self._weights, 1)
        else:
            self._mean = [weight.clone() for weight in self._weights]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The mean in place of the weights, which come back to the bit."""
        if not self._mean:
            yield
            return
        kept = [weight.clone() for weight in self._weights]
        _copy(self._weights, self._mean)
        try:
            yield
        finally:
            _copy(self._weights, kept)

    def state(self) -> list[Tensor]:
        """For a checkpoint."""
        return self._mean

    def load(self, state: list[Tensor]) -> None:
        """Resume from a checkpoint."""
        self._mean = [mean.to(weight.device) for mean, weight in zip(state, self._weights, strict=False)]


def _copy(weights: list[Tensor], values: list[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):  # torch copies no list of sharded tensors at once
        weight.copy_(value)
