"""Texts as blocks of tokens: what a network that learns a language reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maas_magics.core.data.arrow import Array
from maas_magics.core.data.prose import Part
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.tokens import tokenizer


def blocks_of(feature: ProseFeature, texts: Sequence[Sequence[Part]], counts: Array | None) -> tuple[Array, Array]:
    """Tokens in blocks, int32 (n, 2, block + 1), and the bytes of each but the first, float32 (n, block).

    Texts stand one after the other, with the place of each token in its own; those that are longer than what is left of
    a block go on in the next one, from place 0. Places behind the last text count nothing.
    """
    ids, places, sizes = _stream(feature, texts, counts)
    block = feature.block
    number = -(-max(len(ids) - 1, 0) // block)
    found = np.zeros((number, 2, block + 1), dtype=np.int32)
    bytes_of = np.zeros((number, block), dtype=np.float32)
    for row, start in enumerate(range(0, number * block, block)):
        part = slice(start, start + block + 1)
        length = len(ids[part])
        found[row, 0, :length] = ids[part]
        found[row, 1, :length] = _from_zero(places[part])
        bytes_of[row, : length - 1] = sizes[part][1:]
    return found, bytes_of


def _from_zero(places: Array) -> Array:
    """Places of a block's tokens, those of a text that began before it counted from its first token here."""
    begun = np.flatnonzero(places == 0)
    end = int(begun[0]) if len(begun) else len(places)
    made = places.copy()
    made[:end] = np.arange(end)
    return made


def _stream(feature: ProseFeature, texts: Sequence[Sequence[Part]], counts: Array | None) -> tuple[Array, Array, Array]:
    """Tokens of all texts in a row, with their places, and bytes where they are learnt."""
    parts = [part for each in texts for part in each]
    each = iter(feature.ids([part.text for part in parts]))
    each_width = widths(feature)
    ids, places, sizes = [], [], []
    before = [] if feature.begin is None else [feature.begin]
    behind = list(feature.ends[:1])
    for text in texts:
        found, learnt = list(before), [False] * len(before)
        for part in text:
            more = next(each)
            found += more
            learnt += [part.learnt] * len(more)
        found += behind
        learnt += [text[-1].learnt if text else False] * len(behind)
        made = np.array(found, dtype=np.int32)
        here = np.where(learnt, each_width[made], 0.0).astype(np.float32)
        if counts is not None:
            np.add.at(counts, made[np.array(learnt, dtype=bool)], 1)
        ids.append(made)
        places.append(np.arange(len(made), dtype=np.int32))
        sizes.append(here)
    if not ids:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
    return np.concatenate(ids), np.concatenate(places), np.concatenate(sizes)


def widths(feature: ProseFeature) -> Array:
    """Bytes that each token stands for, float32 (size,), one at least, so that it counts.

    Parameters
    ----------
    feature : ProseFeature
        With the tokenizer.
    """
    known = tokenizer(feature.tokenizer, 0)
    made = np.ones(max(feature.size, known.get_vocab_size()), dtype=np.float32)
    special = known.get_added_tokens_decoder()
    for token, place in known.get_vocab(with_added_tokens=False).items():
        if place not in special:
            made[place] = max(1, len(token))  # in the letters of bytes, one for each
    return made
