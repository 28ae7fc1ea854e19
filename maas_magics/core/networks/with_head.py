"""Networks of transformers with the head that they came with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.core.features.heard import ends
from maas_magics.core.features.port import Port
from maas_magics.core.networks.hub import open_folder
from maas_magics.core.networks.padding import before_padding
from maas_magics.core.networks.pretrained import built, read_model
from maas_magics.core.networks.pretrained_audio import ToTheEnd
from maas_magics.core.networks.tagger import NEVER, tag_outputs

AUTO = {
    "text": "AutoModelForSequenceClassification",
    "words": "AutoModelForTokenClassification",
    "image": "AutoModelForImageClassification",
    "audio": "AutoModelForAudioClassification",
}
"""Class of transformers that makes a network, by the kind of column that it is for."""

LEAST = 400
"""Samples that a network over samples hears at least."""

ABSENT = -1
"""In the place of a label: a tag that the network does not have."""


class WithHead(nn.Module):
    """A network of transformers over one column, with its own head.

    Parameters
    ----------
    port : Port
        Of the column.
    config : mapping
        Its configuration, as in ``config.json``.
    base : str
        Where its weights are; see `initialise`.
    outputs : int
        Numbers of an answer.
    order : sequence of int
        Of tags, the place that each has in the head, or `ABSENT`; as they are where it is empty.
    """

    def __init__(
        self, port: Port, config: Mapping[str, Any], base: str, outputs: int, order: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.kind, self.padding, self.longest, self.base = port.kind, port.padding, port.longest, base
        self.inner = built(config, AUTO[port.kind])
        own = self.inner.config.num_labels
        self.of_samples = port.kind == "audio" and len(port.shape) == 1
        if self.of_samples:
            base_model = getattr(self.inner, self.inner.base_model_prefix)
            base_model.feature_extractor = ToTheEnd(base_model.feature_extractor)
        self.order = tuple(order) or tuple(range(own))
        if len(self.order) != outputs:
            raise OptionError(
                f"Its head gives {own} numbers; {outputs} are wanted.", f"--model hf:{base} trains a head."
            )

    def initialise(self, *rows: Tensor) -> None:
        """Read its weights, those of the head included.

        Raises
        ------
        ModelError
            If the folder lacks some.
        """
        loaded, missing = read_model(open_folder(self.base), AUTO[self.kind])
        if missing:
            raise ModelError(
                f"{self.base} lacks weights of the head that its configuration names: {missing[0]}.",
                f"--model hf:{self.base} trains a head.",
            )
        self.inner.load_state_dict(loaded.state_dict())

    def forward(self, numeric: Tensor, categorical: Tensor, x: Tensor) -> Tensor:
        """Outputs (n, labels) of ids (n, tokens), pictures, sounds; (n, words, 1 + tags) of ids and places of words."""
        if self.kind == "image":
            return cast(Tensor, self.inner(pixel_values=x).logits)
        if self.of_samples:
            there = torch.arange(x.shape[1], device=x.device) < ends(x).clamp(min=LEAST)
            return cast(Tensor, self.inner(x, attention_mask=there.long()).logits)
        if self.kind == "audio":
            return cast(Tensor, self.inner(x).logits)
        if self.kind == "text":
            return self._of_ids(x)
        first = x[:, 1].unsqueeze(-1)
        logits = self._of_ids(x[:, 0, : self.longest])
        logits = logits.gather(1, first.clamp(min=0).expand(-1, -1, logits.shape[-1]))
        none = torch.full_like(logits[..., :1], -NEVER)
        each = [none if place == ABSENT else logits[..., place : place + 1] for place in self.order]
        return tag_outputs(torch.cat(each, -1), first)

    def _of_ids(self, ids: Tensor) -> Tensor:
        # Attention over nothing has no mean: of a text without tokens the first place is looked at.
        seen = before_padding(ids, self.padding) | (torch.arange(ids.shape[1], device=ids.device) == 0)
        return cast(Tensor, self.inner(input_ids=ids, attention_mask=seen.long()).logits)
