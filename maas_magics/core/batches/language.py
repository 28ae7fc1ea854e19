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
from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.batches.refused import refuse_options
from maas_magics.core.batches.rows import held_share
from maas_magics.core.batches.training_rows import TrainingRows
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.prose import Part, columns_of, documents, held_out, is_conversation, prose_table
from maas_magics.core.data.roles import held_by, named_split
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.features.chat import CHATML, MARKS, turns
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.module import Preprocessing
from maas_magics.core.features.processor import Processor
from maas_magics.core.features.token_blocks import blocks_of
from maas_magics.core.features.tokens import tokenizer, train_byte_tokenizer
from maas_magics.core.store.sample import TARGET, digest
from maas_magics.core.tasks.language import Language, is_language

END_OF_TEXT = "<|endoftext|>"
"""The token between texts."""

FEWEST, MOST = 512, 8_192
"""Tokens of a vocabulary that is trained."""

KEPT = 200
"""Held-out texts that are kept with a model."""


def of_language(specs: Specs) -> bool:
    """Whether a training is of a language."""
    return is_language(specs.task.task)


WRITERS = {"auto": "gpt", "hf": "causal"}
"""Architectures that learn a language in place of those that are named."""


def with_writer(specs: Specs) -> Specs:
    """The same, with an architecture that writes, where a language is learnt: of ``hf:FOLDER`` ``causal:FOLDER``.

    Raises
    ------
    OptionError
        If such an architecture is named for something else.
    """
    if not isinstance(specs.model.model, str):
        return specs
    name, colon, ref = specs.model.model.partition(":")
    if not of_language(specs):
        if name in architectures and architectures.get(name).layout == "prose":
            raise OptionError(f"{name} learns a language, from texts alone.", "--task language")
        return specs
    return specs.having("model", model=f"{WRITERS.get(name, name)}{colon}{ref}")


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
    refuse_options(asked, f"is not for the task {task.task}, which reads texts as they are.")
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
    data, seed, chosen = specs.data, specs.optimizer.seed, str(specs.model.model)
    architecture = architectures.get(chosen)
    if architecture.layout != "prose":
        raise OptionError(f"{chosen} does not write texts.", "--model gpt, or hf:FOLDER of a network that does")
    params = {**architecture.defaults, **specs.model.params}
    given = architecture.given(params) if architecture.given is not None else {}
    reading = Reading(params, given.get("prose", {}))
    train, held, names = _parted(data, seed, reading)
    if not any(part.learnt and part.text.strip() for parts in train for part in parts):
        raise DataError("The texts to learn from are empty.", "Give rows with text; of conversations, with answers.")
    feature = reading.feature(names[0], train)
    counts: Array = np.zeros(feature.size, dtype=np.int64)
    blocks, bytes_of = blocks_of(feature, train, counts)
    if not len(blocks):
        raise DataError("The texts to learn from hold no token to learn.", "Give longer texts.")
    validation = blocks_of(feature, held, None) if held else None
    shares = counts[counts > 0] / max(int(counts.sum()), 1)
    task = Language(names, kind="text", surprise=float(-(shares * np.log(shares)).sum()))
    processor = Processor.of((feature,), "ports")
    learnt = int((bytes_of > 0).sum())
    notify(f"{learnt:,} tokens to learn, of {feature.size:,} kinds, in {len(blocks):,} blocks of {feature.block}.")
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


class Reading:
    """What texts are read with: a network's own tokenizer and template, or ones that are made for them.

    Parameters
    ----------
    params : mapping
        Hyperparameters: ``block``, and ``vocabulary`` of a tokenizer that is trained.
    given : mapping
        Fields of the feature of a pretrained network; empty where it is trained.
    """

    def __init__(self, params: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self._params, self._given = params, given
        self._chat = False
        if int(params["block"]) < 2:
            raise OptionError(f"block is {params['block']}; 2 or more tokens were expected.", "--set block=128")

    def texts(self, table: pa.Table, names: Sequence[str]) -> list[list[Part]]:
        """Texts of some rows, in parts."""
        if not is_conversation(table.column(names[0]).type):
            return documents(table, names, lambda messages: [])
        self._chat = True
        if not self._given:
            return documents(table, names, lambda messages: turns(CHATML, messages, {}))
        if not self._given.get("template"):
            raise DataError("The network has no template of conversations.", "Give a column of texts.")
        return documents(table, names, ProseFeature("", **self._given).turns)

    def feature(self, name: str, train: Sequence[Sequence[Part]]) -> ProseFeature:
        """The column, fitted to the texts to learn from."""
        block = int(self._params["block"])
        if self._given:
            return ProseFeature(name, **{**self._given, "block": min(block, int(self._given["block"]))})
        texts = ["".join(part.text for part in parts) for parts in train]
        size = int(self._params["vocabulary"]) or _usual_size(sum(len(text.encode()) for text in texts))
        special = (END_OF_TEXT, *(MARKS if self._chat else ()))
        if size < 256 + len(special):
            least = 256 + len(special)
            raise OptionError(f"vocabulary is {size}; {least} tokens are the least.", "--set vocabulary=1024")
        made = train_byte_tokenizer(texts, size, special)
        known = tokenizer(made, 0)
        ends = tuple(known.token_to_id(token) for token in ((END_OF_TEXT, MARKS[1]) if self._chat else (END_OF_TEXT,)))
        return ProseFeature(
            name,
            tokenizer=made,
            size=known.get_vocab_size(),
            begin=ends[0],
            ends=ends,
            block=block,
            template=CHATML if self._chat else "",
        )


def _parted(data: DataSpec, seed: int, reading: Reading) -> tuple[list[list[Part]], list[list[Part]], tuple[str, ...]]:
    """Texts to learn from and held-out ones, and names of their columns."""
    table = prose_table(data.data, data.csv)
    if not table.num_rows:
        raise DataError("The data has no rows.", "Give at least a few texts to learn from.")
    left = table.drop_columns([name for name in data.drop if name in table.column_names])
    names = columns_of(left, data.features, data.target)
    whole, asked = reading.texts(table, names), data.validation
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
    same = columns_of(other, names[:1], names[1] if len(names) > 1 else None)
    return whole, reading.texts(other, same), names


def _usual_size(size: int) -> int:
    """Tokens for a text of so many bytes: twice the root, as more are met too rarely to learn."""
    return int(min(max(2 ** round(math.log2(max(size, 1)) / 2 + 1), FEWEST), MOST))


def _tensors(blocks: Array, bytes_of: Array) -> tuple[tuple[Tensor, ...], Tensor]:
    return (torch.from_numpy(blocks),), torch.from_numpy(bytes_of)


def _sample(name: str, texts: Sequence[Sequence[Part]]) -> pa.Table:
    """Some texts as they came, to ask an export with."""
    few = ["".join(part.text for part in parts)[:2_000] for parts in texts[:KEPT]]
    return pa.table({name: few}).append_column(TARGET, column(np.zeros(len(few), dtype=np.float32), TARGET))


def _digest(texts: Sequence[Sequence[Part]]) -> str:
    def only(learnt: bool) -> list[str]:
        return ["".join(part.text for part in parts if part.learnt is learnt) for parts in texts]

    return digest(pa.table({"read": only(False), "learnt": only(True)}), None)
