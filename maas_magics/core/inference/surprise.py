"""How surprised a model that writes is by texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import torch
from torch import Tensor

from maas_magics.core.data.arrow import Array
from maas_magics.core.data.prose import documents
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.token_blocks import blocks_of
from maas_magics.core.model import Model

BLOCKS = 16
"""Blocks that are read at a time."""


@torch.inference_mode()
def surprise(
    model: Model, table: pa.Table, names: Sequence[str], run: Callable[[Sequence[Array]], Array] | None = None
) -> tuple[Tensor, Tensor]:
    """Surprise at each token, in nats, and its bytes, float32 (blocks, tokens); 0 bytes for one that does not count.

    Parameters
    ----------
    model : Model
        Of the task language.
    table : pyarrow.Table
        The rows.
    names : sequence of str
        Columns of texts, or of prompts and their answers.
    run : callable, optional
        What answers in place of the model, as an export of it does: from blocks of tokens, int32 (n, 2, tokens), to
        the surprise at each, (n, tokens - 1, …).
    """
    (feature,) = model.processor.features
    assert isinstance(feature, ProseFeature)
    blocks, sizes = blocks_of(feature, documents(table, names, feature.turns), None)
    starts = range(0, len(blocks), BLOCKS)
    if run is not None:
        found = [torch.from_numpy(run([blocks[at : at + BLOCKS]])[..., 0]).float() for at in starts]
        return torch.cat(found) if found else torch.zeros(0, feature.block), torch.from_numpy(sizes)
    net = model.net
    device = next(net.parameters()).device
    parts = [net(torch.from_numpy(blocks[at : at + BLOCKS]).to(device)).cpu() for at in starts]
    return torch.cat(parts) if parts else torch.zeros(0, feature.block), torch.from_numpy(sizes)
