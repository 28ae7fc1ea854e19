"""Encoders of transformers, rebuilt from their configuration, with weights of a folder or of a version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from maas_magics.api.errors import ModelError, require
from maas_magics.core.features.port import Port
from maas_magics.core.networks.encoders import masked_mean
from maas_magics.core.networks.hub import HubFolder, open_folder
from maas_magics.core.networks.padding import before_padding

Pooling = Literal["mean", "cls"]


class Pretrained(nn.Module):
    """An encoder of transformers.

    Parameters
    ----------
    config : mapping
        Its configuration, as in ``config.json``.
    base : str
        Where its weights are; see `initialise`.
    """

    lr_factor = 1.0
    """Of the learning rate; what is new learns faster."""

    def __init__(self, config: Mapping[str, Any], base: str) -> None:
        super().__init__()
        self.base = base
        self.inner = self.encoder(built(config))

    @property
    def pretrained(self) -> nn.Module:
        """What has pretrained weights; see `maas_magics.core.networks.adapters.adapt`."""
        return cast(nn.Module, self.inner)

    def encoder(self, model: Any) -> Any:
        """The part of a model of transformers that encodes."""
        return model

    def adapted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the folder as they are taken here."""
        return weights

    def initialise(self) -> None:
        """Read the pretrained weights, once, when a training begins."""
        loaded, _ = read_model(open_folder(self.base))
        weights = self.adapted(self.encoder(loaded).state_dict())
        missing, _ = self.inner.load_state_dict(weights, strict=False)
        if missing:
            raise ModelError(f"{self.base} lacks weights that its configuration requires: {missing[0]}", "")


class PretrainedText(Pretrained):
    """A BERT-like encoder of transformers, and one vector of what it makes of a text.

    Parameters
    ----------
    port : Port
        Ids of tokens, int64 (n, tokens).
    config : mapping
        Its configuration, as in ``config.json``.
    base : str
        Where its weights are; see `initialise`.
    pooling : {"mean", "cls"}
        The mean of all tokens' vectors, or the first one's.
    """

    def __init__(self, port: Port, config: Mapping[str, Any], base: str, pooling: Pooling = "mean") -> None:
        super().__init__(config, base)
        self.padding, self.pooling = port.padding, pooling
        self.size = self.width = int(self.inner.config.hidden_size)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (n, size) of ids (n, tokens)."""
        x, there = self.states(ids), before_padding(ids, self.padding)
        return x[:, 0] if self.pooling == "cls" else masked_mean(x.transpose(1, 2), there.unsqueeze(1))

    def states(self, ids: Tensor) -> Tensor:
        """Vectors (n, tokens, width) of ids (n, tokens)."""
        there = before_padding(ids, self.padding)
        # Attention over nothing has no mean: of a text without tokens the first place is looked at.
        seen = there | (torch.arange(ids.shape[1], device=ids.device) == 0)
        return cast(Tensor, self.inner(input_ids=ids, attention_mask=seen.long()).last_hidden_state)


def read_model(folder: HubFolder, auto: str = "AutoModel") -> tuple[Any, list[str]]:
    """A model of transformers with the weights of a folder, and the names of those that the folder lacks.

    Parameters
    ----------
    folder : HubFolder
    auto : str
        Class of transformers that makes it.
    """
    import transformers

    with _no_progress_bar():
        loaded, told = getattr(transformers, auto).from_pretrained(
            folder.path, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    return loaded, sorted(told["missing_keys"])


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Read weights without the bar that transformers draws."""
    from transformers.utils import logging as found

    logging: Any = found

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def built(config: Mapping[str, Any], auto: str = "AutoModel") -> Any:
    """A network of a configuration; without the pooler of BERT, which nothing reads, where it has no head.

    Parameters
    ----------
    config : mapping
        As in ``config.json``.
    auto : str
        Class of transformers that makes it.

    Raises
    ------
    ModelError
        If transformers has no such network.
    """
    require("transformers", "transformers", "A pretrained network", "maas-magics[text]")
    import transformers

    try:
        known = transformers.AutoConfig.for_model(**config)
    except Exception as error:  # of many kinds
        raise ModelError(f"transformers has no network {config.get('model_type')!r}: {error}", "") from error
    make: Any = getattr(transformers, auto).from_config
    if auto != "AutoModel":
        return make(known, trust_remote_code=False).float()
    try:
        return make(known, trust_remote_code=False, add_pooling_layer=False).float()
    except TypeError:
        return make(known, trust_remote_code=False).float()
