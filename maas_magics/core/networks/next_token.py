"""A decoder that learns: how surprised it is by each token of a text, from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.compat.tracing import is_traced
from maas_magics.core.networks.decoder import Decoder, DecoderConfig
from maas_magics.core.networks.decoder_gpt2 import DecoderGPT2

PART = 2**20
"""Logits that are worked on at a time: as many as stay near the processor."""

FEWEST = 256
"""Tokens at a time at least, for products of a few rows are slow."""


class Surprise(torch.autograd.Function):
    """Negative log likelihood of tokens, from hidden states; logits are made once, and turned into what is needed.

    A softmax, a logarithm and a choice one after the other read and write them four times as often, and all of them
    at once are more than a cache holds.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, output: Tensor, wanted: Tensor) -> Tensor:
        """Of each token, float32 (tokens,)."""
        kept, found = [], []
        for part, right in zip(_parts(hidden, output), _parts(wanted, output), strict=True):
            logits = part @ output.T
            ctx.dtype = logits.dtype  # that of autocast, where it is on
            shares = logits.float()
            most = shares.amax(1, keepdim=True)
            chosen = shares.gather(1, right[:, None])
            shares.sub_(most).exp_()
            total = shares.sum(1, keepdim=True)
            kept.append(shares.div_(total))
            found.append((total.log() + most - chosen)[:, 0])
        ctx.save_for_backward(hidden, output, wanted, *kept)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        """Slopes of hidden states and of the last layer."""
        hidden, output, wanted, *kept = ctx.saved_tensors
        last = output.to(ctx.dtype)
        of_hidden, of_output = [], None
        each = (_parts(one, output) for one in (hidden, wanted, slopes[0]))
        for part, right, slope, shares in zip(*each, kept, strict=True):
            made = shares * slope[:, None]
            made.scatter_add_(1, right[:, None], -slope[:, None])
            made = made.to(ctx.dtype)
            of_hidden.append((made @ last).to(hidden.dtype))
            if of_output is None:
                of_output = made.T @ part.to(ctx.dtype)
            else:
                of_output.addmm_(made.T, part.to(ctx.dtype))
        assert of_output is not None
        return torch.cat(of_hidden), of_output.to(output.dtype), None


def _parts(x: Tensor, output: Tensor) -> Sequence[Tensor]:
    """Tokens, as many at a time as make so many logits; all of them in a graph, whose compiler knows better."""
    return (x,) if is_traced() else torch.split(x, max(FEWEST, PART // len(output)))


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
