"""A decoder that learns: how surprised it is by each token of a text, from those before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.compat.tracing import is_traced
from maas_magics.core.networks.decoder import Decoder, DecoderConfig
from maas_magics.core.networks.decoder_gpt2 import DecoderGPT2


class Surprise(torch.autograd.Function):
    """Negative log likelihood of tokens, from hidden states; logits are made once, and turned into what is needed.

    A softmax, a logarithm and a choice one after the other read and write them four times as often.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, output: Tensor, wanted: Tensor) -> Tensor:
        """Of each token, float32 (tokens,)."""
        logits = hidden @ output.T
        ctx.dtype = logits.dtype  # that of autocast, where it is on
        shares = logits.float()
        most = shares.amax(1, keepdim=True)
        right = shares.gather(1, wanted[:, None])
        shares.sub_(most).exp_()
        total = shares.sum(1, keepdim=True)
        ctx.save_for_backward(hidden, output, wanted, shares.div_(total))
        return (total.log() + most - right)[:, 0]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        """Slopes of hidden states and of the last layer."""
        hidden, output, wanted, shares = ctx.saved_tensors
        made = shares * slopes[0][:, None]
        made.scatter_add_(1, wanted[:, None], -slopes[0][:, None])
        made = made.to(ctx.dtype)
        of_hidden = (made @ output.to(ctx.dtype)).to(hidden.dtype)
        return of_hidden, (made.T @ hidden.to(ctx.dtype)).to(output.dtype), None


class NextToken(nn.Module):
    """Reads blocks of tokens, and answers how surprised it is by each but the first.

    Parameters
    ----------
    config : DecoderConfig
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.decoder = Decoder(config) if config.places == "turned" else DecoderGPT2(config)

    def forward(self, x: Tensor) -> Tensor:
        """Negative log likelihood of each token but the first, in nats, float32 (n, tokens − 1).

        Parameters
        ----------
        x : Tensor, int32, shape (n, 2, tokens)
            Ids of tokens, and the place of each in its text; where that is 0 another text begins, which sees nothing
            of the one before.
        """
        ids, places = x[:, 0].long(), x[:, 1, :-1].long()
        hidden = self.decoder(ids[:, :-1], places, _apart(places))
        wanted = ids[:, 1:].reshape(-1)
        surprise: Any = Surprise
        found: Tensor = surprise.apply(hidden.flatten(0, 1), self.decoder.output, wanted)
        return found.view(len(x), -1).float()


def _apart(places: Tensor) -> Tensor | None:
    """Which tokens see which, where several texts stand in one block, bool (n, 1, tokens, tokens); else None."""
    begins = places == 0
    if not is_traced() and not bool(begins[:, 1:].any()):
        return None
    text = begins.cumsum(1)
    tokens = places.shape[1]
    before = torch.ones(tokens, tokens, dtype=torch.bool, device=places.device).tril()
    return ((text[:, :, None] == text[:, None, :]) & before)[:, None]
