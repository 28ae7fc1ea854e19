"""What an export of a model that writes is judged on: texts, at each token of which it says what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from maas_magics.core.data.arrow import Array
from maas_magics.core.data.prose import Part
from maas_magics.core.exporters.text.judged import judged
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.token_blocks import blocks_of, widths
from maas_magics.core.model import Model
from maas_magics.core.runtimes.text.torch_engine import TorchEngine
from maas_magics.core.store.sample import read_sample

TOKENS = 4_096
"""Tokens that are looked at."""

BLOCK = 256
"""Tokens of a text that are read at once; the logits of each are as many numbers as there are tokens to choose from."""

OWN, EACH = 16, 128
"""Texts that a model writes itself, where none were kept with it, and tokens of each."""


def keeps_texts(version: Path) -> bool:
    """Whether held-out texts were kept with a version.

    Parameters
    ----------
    version : Path
        Its folder.
    """
    return bool(len(read_sample(version)[0]))


def texts_of_trial(model: Model, version: Path) -> tuple[Array, Array]:
    """Blocks of tokens, int32 (n, 2, block + 1), and bytes of each but the first, float32 (n, block).

    Parameters
    ----------
    model : Model
        The version in torch.
    version : Path
        Folder of the model's own files, its held-out texts among them.
    """
    feature = prose(model)
    block = min(BLOCK, feature.block)
    table, _ = read_sample(version)
    texts = [text for text in table.column(feature.name).to_pylist() if text]
    blocks, sizes = blocks_of(
        msgspec.structs.replace(feature, block=block), [[Part(text, True)] for text in texts], None
    )
    if not len(blocks):
        return _written(model, feature, min(EACH, block))
    most = max(1, TOKENS // block)
    return blocks[:most], sizes[:most]


def prose(model: Model) -> ProseFeature:
    """The text that a model continues."""
    return next(one for one in model.processor.features if isinstance(one, ProseFeature))


def in_torch(decoder: Any) -> Callable[[Sequence[Array]], Array]:
    """How surprised a decoder is by texts; see `judged`.

    Parameters
    ----------
    decoder : Decoder or DecoderGPT2
        In eval mode.
    """
    device = next(decoder.parameters()).device

    @torch.inference_mode()
    def logits(ids: Array) -> Array:
        given = torch.from_numpy(ids.astype(np.int64))[None].to(device)
        hidden = decoder(given, torch.arange(len(ids), device=device)[None])
        return np.asarray(decoder.logits(hidden)[0].float().cpu().numpy())

    return lambda raw: judged(raw[0], logits)


def _written(model: Model, feature: ProseFeature, block: int) -> tuple[Array, Array]:
    """Texts that the model writes itself, each token drawn as likely as it thinks it is; as blocks."""
    decoder: Any = model.net.decoder
    random = np.random.default_rng(0)
    engine = TorchEngine(decoder, OWN, block + 1)
    begin = feature.begin if feature.begin is not None else feature.ends[0] if feature.ends else 0
    found = np.zeros((OWN, 2, block + 1), dtype=np.int32)
    found[:, 1] = np.arange(block + 1)
    found[:, 0, 0] = begin
    slots = list(range(OWN))
    for place in range(block):
        logits = engine.step(slots, found[:, 0, place].tolist(), [place] * OWN)[:, : feature.size]
        found[:, 0, place + 1] = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    return found, widths(feature)[found[:, 0, 1:]]
