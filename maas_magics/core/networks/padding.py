"""Which places of rows are before the padding behind them."""

from __future__ import annotations

import torch
from torch import Tensor


def before_padding(ids: Tensor, padding: int) -> Tensor:
    """Whether a place is before the padding at the end of its row, bool, of the shape of ``ids``.

    A padding token that stands before others is one of the text, as where somebody wrote ``[PAD]``.

    Parameters
    ----------
    ids : Tensor of int64, shape (…, tokens)
    padding : int
        Id of the padding token.
    """
    place = torch.arange(1, ids.shape[-1] + 1, device=ids.device)
    last = torch.where(ids != padding, place, torch.zeros_like(place)).amax(-1, keepdim=True)
    return place <= last
