"""Arrays as tensors of torch."""

from __future__ import annotations

import torch
from torch import Tensor

from maas_magics.core.data.arrow import Array


def as_tensor(values: Array) -> Tensor:
    """Array as a tensor that shares its memory, or a copy of it where the array may not be written to."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())
