"""Texts as blocks of tokens, for a network that learns which token comes next."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.requests import is_named_split
from maas_magics.api.specs import DataSpec, Specs
from maas_magics.core.architectures import architectures
from maas_magics.core.batches.loaders import is_loader
from maas_magics.core.batches.prepare import Prepared, held_share
from maas_magics.core.batches.training_rows import TrainingRows
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.prose import Part, columns_of, held_out, is_conversation, prose_table, texts_of
from maas_magics.core.data.roles import held_by, named_split
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.features.chat import BEGIN, CHATML, END
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.module import Preprocessing
from maas_magics.core.features.processor import Processor
from maas_magics.core.features.tokens import tokenizer, train_byte_tokenizer
from maas_magics.core.store.sample import TARGET, digest
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.language import Language

END_OF_TEXT = "<|endoftext|>"
"""The token between texts."""

FEWEST, MOST = 512, 8_192
"""Tokens of a vocabulary that is trained."""

KEPT = 200
"""Held-out texts that are kept with a model."""


def of_language(specs: Specs) -> bool:
    """Whether a training is of a language."""
    named = specs.task.task
    return isinstance(named, str) and named in tasks and bool(tasks.get(named).runtime)


def check_language(specs: Specs) -> None:
    """Refuse what is not for the texts of a language.

    Raises
    ------
    OptionError
    """
    data, task = specs.data, specs.task
    asked = {
        "--weights": data.weights is not None,
        "--inputs": bool(data.inputs),
        "--stream": bool(data.stream),
        "--balance": data.balance,
        "--augment": bool(data.augment),
        "--pairs": bool(data.pairs),
        "--feature": bool(data.feature),
        "--class-weights": task.class_weights is not None,
        "--loader-workers": specs.run.loader_workers is not None,
        "--cache": specs.run.cache is not None,
    }
    word = next((word for word, is_asked in asked.items() if is_asked), None)
    if word is not None:
        raise OptionError(f"{word} is not for the task {task.task}, which reads texts as they are.", f"Drop {word}.")
    if is_loader(data.data) or not isinstance(specs.model.model, str):
        raise OptionError(
            "A language is learnt by a network by name, from a table or files of text.", "--model gpt, or hf:FOLDER"
        )
    if data.target is not None and not isinstance(data.target, str):
        raise OptionError("The target of a language is the column of the answers.", "--target answer")


def language_rows(specs: Specs, notify: Callable[[str], None]) -> TrainingRows:
    """Blocks of tokens that a training is given, and what is fitted on them.

    Raises
    ------
    DataError
        If there is nothing to learn from.
    """
    check_language(specs)
    data, seed, name = specs.data, specs.optimizer.seed, str(specs.model.model)
    chosen = "gpt" if name == "auto" else name
    architecture = architectures.get(chosen)
    if architecture.layout != "prose":
        raise OptionError(f"{chosen} does not write texts.", "--model gpt, or hf:FOLDER of a network that does")
    params = {**architecture.defaults, **specs.model.params}
    train, held, names = _parted(data, seed)
    if not any(part.learnt and part.text.strip() for parts in train for part in parts):
        raise DataError("The texts to learn from are empty.", "Give rows with text.")
    given = architecture.given(params) if architecture.given is not None else {}
    feature = _feature(names[0], train, params, given.get("prose", {}), chat=is_chat(data, names))
    counts: Array = np.zeros(feature.size, dtype=np.int64)
    blocks, bytes_of = _blocks(feature, train, counts)
    if not len(blocks):
        raise DataError("The texts to learn from hold no token to learn.", "Give longer texts.")
    validation = _blocks(feature, held, None) if held else None
    shares = counts[counts > 0] / max(int(counts.sum()), 1)
    task = Language(names, kind="text", surprise=float(-(shares * np.log(shares)).sum()))
    processor = Processor.of((feature,), "ports")
    notify(
        f"{int((bytes_of > 0).sum()):,} tokens to learn, of {feature.size:,} different ones, in {len(blocks):,} blocks of "
        f"{feature.block}."
    )
    prepared = Prepared(
        processor,
        task,
        Preprocessing(processor),
        _tensors(blocks, bytes_of),
        _tensors(*validation) if validation is not None and len(validation[0]) else None,
        _sample(names[0], held or train),
        _digest(train),
    )
    return TrainingRows(chosen, architecture.layout, len(blocks), bytes_of[:1], prepared)


def is_chat(data: DataSpec, names: Sequence[str]) -> bool:
    """Whether the rows are conversations."""
    table = prose_table(data.data, data.csv)
    return is_conversation(table.column(names[0]).type)


def _parted(data: DataSpec, seed: int) -> tuple[list[list[Part]], list[list[Part]], tuple[str, ...]]:
    """Texts to learn from and held-out ones, and names of their columns."""
    features = (data.features,) if isinstance(data.features, str) else tuple(data.features)
    table = prose_table(data.data, data.csv)
    if not table.num_rows:
        raise DataError("The data has no rows.", "Give at least a few texts to learn from.")
    dropped = (data.drop,) if isinstance(data.drop, str) else tuple(data.drop)
    names = columns_of(
        table.drop_columns([name for name in dropped if name in table.column_names]), features, data.target
    )
    whole, asked = documents(table, names), data.validation
    if is_named_split(asked):
        split = named_split(asked)
        assert split is not None
        if split.column not in table.column_names:
            raise DataError(f"The data has no column {split.column!r}.", f"There is: {', '.join(table.column_names)}.")
        out = held_by(split, table.column(split.column), seed)
        return [whole[at] for at in np.flatnonzero(~out)], [whole[at] for at in np.flatnonzero(out)], names
    if asked is None or isinstance(asked, (int, float)):
        train, held = held_out(len(whole), held_share(asked), seed)
        return [whole[at] for at in train], [whole[at] for at in held], names
    other = prose_table(asked, data.csv)
    return whole, documents(other, columns_of(other, (names[0],), names[1] if len(names) > 1 else None)), names


def documents(table: pa.Table, names: Sequence[str]) -> list[list[Part]]:
    """Texts of some rows, in parts that are learnt and others that are read.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    names : sequence of str
        Of the columns: texts, or prompts and answers.
    """
    if is_conversation(table.column(names[0]).type):
        return [_turns(messages or []) for messages in table.column(names[0]).to_pylist()]
    first = texts_of(table.column(names[0]))
    if len(names) == 1:
        return [[Part(text, True)] for text in first]
    return [
        [Part(prompt, False), Part(answer, True)]
        for prompt, answer in zip(first, texts_of(table.column(names[1])), strict=True)
    ]


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[Part]:
    """A conversation in the form of `CHATML`; only what the assistant says is learnt."""
    found = []
    for message in messages:
        learnt = message["role"] == "assistant"
        found.append(Part(f"{BEGIN}{message['role']}\n", False))
        found.append(Part(f"{message['content']}{END}", learnt))
        found.append(Part("\n", False))
    return found


def _feature(
    name: str, train: Sequence[Sequence[Part]], params: Mapping[str, Any], given: Mapping[str, Any], *, chat: bool
) -> ProseFeature:
    """What the texts are read with: a network's own tokenizer, or one that is trained."""
    block = int(params["block"])
    if block < 2:
        raise OptionError(f"block is {block}; 2 or more tokens were expected.", "--set block=128")
    if given:
        return ProseFeature(name, **{**given, "block": min(block, int(given["block"]))})
    texts = ["".join(part.text for part in parts) for parts in train]
    size = int(params["vocabulary"]) or _usual_size(sum(len(text.encode()) for text in texts))
    special = (END_OF_TEXT, *((BEGIN, END) if chat else ()))
    if size < 256 + len(special):
        raise OptionError(
            f"vocabulary is {size}; 256 bytes and {len(special)} more are the least.", "--set vocabulary=1024"
        )
    made = train_byte_tokenizer(texts, size, special)
    known = tokenizer(made, 0)
    ends = tuple(known.token_to_id(token) for token in ((END_OF_TEXT, END) if chat else (END_OF_TEXT,)))
    return ProseFeature(
        name,
        tokenizer=made,
        size=known.get_vocab_size(),
        begin=ends[0],
        ends=ends,
        block=block,
        template=CHATML if chat else "",
    )


def _usual_size(size: int) -> int:
    """Tokens for a text of so many bytes: twice the root, as more are met too rarely to learn."""
    return min(max(2 ** round(math.log2(max(size, 1)) / 2 + 1), FEWEST), MOST)


def _blocks(feature: ProseFeature, texts: Sequence[Sequence[Part]], counts: Array | None) -> tuple[Array, Array]:
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
    widths = _widths(feature)
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
        here = np.where(learnt, widths[made], 0.0).astype(np.float32)
        if counts is not None:
            np.add.at(counts, made[np.array(learnt, dtype=bool)], 1)
        ids.append(made)
        places.append(np.arange(len(made), dtype=np.int32))
        sizes.append(here)
    if not ids:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
    return np.concatenate(ids), np.concatenate(places), np.concatenate(sizes)


def _widths(feature: ProseFeature) -> Array:
    """Bytes that each token stands for, float32 (size,), one at least, so that it counts."""
    known = tokenizer(feature.tokenizer, 0)
    made = np.ones(max(feature.size, known.get_vocab_size()), dtype=np.float32)
    for token, place in known.get_vocab(with_added_tokens=False).items():
        made[place] = max(1, len(token))  # in the letters of bytes, one for each
    return made


def _tensors(blocks: Array, bytes_of: Array) -> tuple[tuple[Tensor, ...], Tensor]:
    return (torch.from_numpy(blocks),), torch.from_numpy(bytes_of)


def _sample(name: str, texts: Sequence[Sequence[Part]]) -> pa.Table:
    """Some texts as they came, to ask an export with."""
    few = ["".join(part.text for part in parts)[:2_000] for parts in texts[:KEPT]]
    return pa.table({name: few}).append_column(TARGET, column(np.zeros(len(few), dtype=np.float32), TARGET))


def _digest(texts: Sequence[Sequence[Part]]) -> str:
    table = pa.table(
        {
            str(learnt): ["".join(part.text for part in parts if part.learnt is learnt) for parts in texts]
            for learnt in (True, False)
        }
    )
    return digest(table, None)
