"""Two texts read as one, as BERT reads pairs: what stands in one may attend to what stands in the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from maas_magics.core.features.port import Port
from maas_magics.core.networks.encoders import masked_mean
from maas_magics.core.networks.fusion import Fusion
from maas_magics.core.networks.padding import before_padding
from maas_magics.core.networks.parted import Parted
from maas_magics.core.networks.pretrained import Pooling, PretrainedText


class PairText(PretrainedText):
    """A BERT-like encoder of transformers over two texts in a row.

    Parameters
    ----------
    port : Port
        Ids of tokens.
    config : mapping
        Its configuration, as in ``config.json``.
    base : str
        Where its weights are.
    pooling : {"mean", "cls"}
        The mean of all tokens' vectors, or the first one's.
    typed : bool
        Whether it has vectors that tell the tokens of the second text from those of the first.
    """

    def __init__(self, port: Port, config: Mapping[str, Any], base: str, pooling: Pooling, typed: bool) -> None:
        super().__init__(port, config, base, pooling)
        self.typed = typed

    def forward(self, pair: Tensor) -> Tensor:
        """Vectors (n, size) of ids and of the text that each is of, int64 (n, 2, tokens)."""
        ids, types = pair[:, 0], pair[:, 1]
        there = before_padding(ids, self.padding)
        more = {"token_type_ids": types} if self.typed else {}
        x: Tensor = self.inner(input_ids=ids, attention_mask=there.long(), **more).last_hidden_state
        return x[:, 0] if self.pooling == "cls" else masked_mean(x.transpose(1, 2), there.unsqueeze(1))


class Joined(nn.Module):
    """A fusion whose two columns of texts reach one encoder as one text.

    Parameters
    ----------
    net : Fusion
        Its first encoder is a `PairText`; the others are those of the other columns, in their order.
    places : tuple of int
        Of the two columns among those that come by themselves.
    between : tuple of int
        Ids that stand between the two texts, beside those that end the first.
    padding : int
    longest : int
        Tokens that the encoder has places for; what is behind is cut.
    """

    def __init__(
        self, net: Fusion, places: tuple[int, int], between: tuple[int, ...], padding: int, longest: int
    ) -> None:
        super().__init__()
        self.net, self.places, self.padding, self.longest = net, places, padding, longest
        self.register_buffer("between", torch.tensor(between, dtype=torch.int64), persistent=False)

    def joined(self, one: Tensor, other: Tensor) -> Tensor:
        """Ids, and 0 or 1 for the text that each is of, int64 (n, 2, tokens), of ids (n, a) and (n, b).

        Padding is moved behind both, so that each token has the place that it has in a batch of one row.
        """
        between = cast(Tensor, self.between).expand(len(one), -1)
        ids = torch.cat([one, between, other[:, 1:]], 1)  # the token that begins a text stands once
        second = torch.arange(ids.shape[1], device=ids.device) >= one.shape[1] + between.shape[1]
        there = torch.cat(
            [
                before_padding(one, self.padding),
                torch.ones_like(between, dtype=torch.bool),
                before_padding(other, self.padding)[:, 1:],
            ],
            1,
        )
        rank, behind = there.cumsum(1) - 1, (~there).cumsum(1) - 1
        place = torch.where(there, rank, there.sum(1, keepdim=True) + behind)
        types = (second & there).long()
        moved = [torch.zeros_like(ids).scatter(1, place, values) for values in (ids, types)]
        return torch.stack(moved, 1)[:, :, : self.longest]

    def ports(self, *ports: Tensor) -> tuple[Tensor, ...]:
        """The two texts as one, and every other column."""
        one, other = (ports[place] for place in self.places)
        rest = (port for place, port in enumerate(ports) if place not in self.places)
        return self.joined(one, other), *rest

    def initialise(self, numeric: Tensor, categorical: Tensor, *ports: Tensor) -> None:
        """Place the bins of the numeric columns on the training rows, and read pretrained weights."""
        self.net.initialise(numeric, categorical)

    def forward(self, numeric: Tensor, categorical: Tensor, *ports: Tensor) -> Tensor:
        """Outputs (n, outputs)."""
        return cast(Tensor, self.net(numeric, categorical, *self.ports(*ports)))

    def parameter_groups(self) -> list[dict[str, object]]:
        """Those of the fusion."""
        return self.net.parameter_groups()

    def parted(self) -> Parted:
        """Its pretrained encoders, and everything else."""
        fixed, behind, *_ = self.net.parted()
        return Parted(_Front(self, fixed), behind)


class _Front(nn.Module):
    """Joins texts, and asks what stays as it is."""

    def __init__(self, whole: Joined, fixed: nn.Module) -> None:
        super().__init__()
        self.join, self.fixed = [whole], fixed  # in a list: its layers are the other's

    def forward(self, numeric: Tensor, categorical: Tensor, *ports: Tensor) -> tuple[Tensor, ...]:
        return cast("tuple[Tensor, ...]", self.fixed(numeric, categorical, *self.join[0].ports(*ports)))
