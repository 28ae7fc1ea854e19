"""A pretrained network of a Hugging Face folder, as it is fine-tuned: ``--model hf:FOLDER``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import msgspec
from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.features.port import Port
from maas_magics.core.features.tokens import for_words, padding_id, pairing, tokenizer
from maas_magics.core.networks.encoders import encoder_of
from maas_magics.core.networks.fusion import Fusion
from maas_magics.core.networks.hub import HubFolder, open_folder
from maas_magics.core.networks.joined import Joined, PairText
from maas_magics.core.networks.kinds import asked_of, kind_of, over_files
from maas_magics.core.networks.pretrained import PretrainedText
from maas_magics.core.networks.tagger import over_texts
from maas_magics.core.networks.transcriber import Transcriber
from maas_magics.core.networks.with_head import WithHead
from maas_magics.core.tasks.base import Task


def hf(
    features: NetworkInputs,
    outputs: int,
    *,
    task: Task,
    base: str = "",
    digest: str = "",
    revision: str = "",
    config: str = "{}",
    kind: Literal["text", "image", "audio"] = "text",
    pooling: Literal["", "mean", "cls"] = "",
    hidden: int | None = None,
    dropout: float = 0.1,
    own_head: bool = False,
    order: Sequence[int] = (),
    compare: bool = False,
    sentence: Literal["", "mean", "cls"] = "",
    join: bool = False,
    pair: str = "",
    generation: str = "",
    times: Literal["", "words", "segments"] = "",
) -> nn.Module:
    """The encoder of a folder over texts, pictures or sounds; numbers, categories and other columns beside it.

    Parameters
    ----------
    features : NetworkInputs
        The columns, of which one or more are of its kind.
    outputs : int
        One for each class, label or quantity; of two classes, one for both.
    task : Task
        What is learnt.
    base : str
        The folder, or a name on the hub.
    digest : str
        SHA-256 of its weights.
    revision : str
        Commit that it was fetched at.
    config : str
        Its configuration as JSON.
    kind : {"text", "image", "audio"}
        Of the columns that it is for.
    pooling : {"", "mean", "cls"}
        How a text or a picture becomes one vector: the mean of its tokens' or the first one's. Where nothing is said,
        the mean of a text's, and the first of a picture's.
    hidden : int or None
        Width of a layer before the answer; none where a text is all there is, else 128.
    dropout : float
        Probability of dropping a number before the answer.
    own_head : bool
        Whether it answers with the head that it came with, from one column, as after ``%maas import``.
    order : sequence of int
        Of the tags of its own head; see `WithHead`.
    compare : bool
        Whether two columns of texts are read by one encoder, and what they have in common is seen; so it is in new
        trainings.
    sentence : {"", "mean", "cls"}
        How the folder says that a sentence becomes a vector: the pooling of pairs, where none is requested.
    join : bool
        Whether two columns of texts are read as one text instead, as BERT reads pairs: slower, and better where it is
        a word here and a word there that counts.
    pair : str
        How its tokenizer puts two texts in a row.
    generation : str
        What a network that writes goes by, ``generation_config.json``.
    times : {"", "words", "segments"}
        What the answer of a network that writes has seconds of.
    """
    if task.writes:
        return Transcriber(json.loads(config), json.loads(generation), base, times)
    if own_head:
        return WithHead(features.ports[0], json.loads(config), base, outputs, order)
    if kind != "text":
        return over_files(features, outputs, kind, json.loads(config), base, pooling, hidden, dropout)
    if not any(port.kind in ("text", "words") for port in features.ports):
        raise OptionError("A pretrained network reads texts; no column is one.", "--feature COLUMN=text")
    alone = len(features.ports) == 1 and not features.numeric and not features.categories
    pooled = pooling or (sentence if task.of_pairs else "") or "mean"
    text = partial(PretrainedText, config=json.loads(config), base=base, pooling=pooled)
    if join:
        return _joined(features, outputs, json.loads(config), base, pooled, hidden, dropout, pair, text)
    width = (0 if alone else 128) if hidden is None else hidden
    return over_texts(
        features, outputs, task.of_words, text, width, dropout, faster=10.0, of_pairs=task.of_pairs, compare=compare
    )


def _joined(
    features: NetworkInputs,
    outputs: int,
    config: dict[str, Any],
    base: str,
    pooling: Any,
    hidden: int | None,
    dropout: float,
    pair: str,
    text: Callable[[Port], nn.Module],
) -> nn.Module:
    """A network over two texts in a row; see `hf`."""
    places = [place for place, port in enumerate(features.ports) if port.kind == "text"]
    if len(places) != 2 or any(len(features.ports[place].shape) != 1 for place in places):
        raise OptionError(f"join reads two columns of texts as one; there are {len(places)}.", "Drop --set join=True.")
    if not pair:
        raise OptionError("The tokenizer of the network joins no pairs.", "Drop --set join=True: they are compared.")
    known, first = json.loads(pair), features.ports[places[0]]
    rest = tuple(port for place, port in enumerate(features.ports) if place not in places)
    beside = msgspec.structs.replace(features, ports=(first, *rest))
    typed = known["typed"] and int(config.get("type_vocab_size") or 0) > 1

    def encoder(port: Port) -> nn.Module:
        return PairText(port, config, base, pooling, typed) if port is first else encoder_of(port, text)

    alone = not rest and not features.numeric and not features.categories
    net = Fusion(beside, outputs, encoder, (0 if alone else 128) if hidden is None else hidden, dropout, faster=10.0)
    return Joined(net, (places[0], places[1]), tuple(known["between"]), first.padding, known["longest"])


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW at 5e-5 falling to 0 after a warm-up; what is new learns ten times as fast.

    Parameters
    ----------
    rows : int
        Training rows; not used.
    task : Task
        The fitted target; not used.
    """
    return Recipe(
        optimizer="AdamW",
        lr=5e-5,
        weight_decay=0.01,
        schedule="linear",
        batch_size=32,
        epochs=3,
        patience=0,
        bf16=True,
    )


def probe(rows: int, task: Task) -> Recipe:
    """AdamW at 5e-3 falling to 0, for many epochs, each of which takes no time.

    Parameters
    ----------
    rows : int
        Training rows; not used.
    task : Task
        The fitted target; not used.
    """
    return Recipe(optimizer="AdamW", lr=5e-3, weight_decay=0.01, schedule="linear", batch_size=32, epochs=20)


def lora(rows: int, task: Task) -> Recipe:
    """As `recipe`, at the rate that adapters learn best at.

    Parameters
    ----------
    rows : int
        Training rows.
    task : Task
        The fitted target.
    """
    return replace(recipe(rows, task), lr=1e-3, weight_decay=0.0)


def pretrained(ref: str) -> dict[str, Any]:
    """Hyperparameters that say which network it is.

    Parameters
    ----------
    ref : str
        A folder, or a name on the hub.

    Raises
    ------
    ModelError
        If there is no such folder, or it cannot be used.
    """
    folder = open_folder(ref)
    return {
        **folder.named(ref),
        **({"kind": kind} if (kind := kind_of(folder)) != "text" else _of_texts(folder)),
    }


def _of_texts(folder: HubFolder) -> dict[str, Any]:
    pair, found = pairing(folder.tokenizer), {"compare": True, "sentence": folder.pooling}
    if pair is None:
        return found
    return {**found, "pair": json.dumps({"between": pair[0], "typed": pair[1], "longest": folder.most})}


def given(params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What its texts are read with.

    Parameters
    ----------
    params : dict of str to Any
        Hyperparameters of the architecture; ``base`` is the folder.
    """
    folder = open_folder(str(params["base"]))
    if (kind := kind_of(folder)) != "text":
        return {kind: asked_of(folder, kind)}
    source = folder.tokenizer
    known = tokenizer(source, 0)
    found = {
        "tokenizer": source,
        "size": known.get_vocab_size(),
        "padding": padding_id(source),
        "longest": folder.longest,
    }
    return {"text": found, "words": {**found, "tokenizer": for_words(source)}}


architectures.register("hf")(Architecture("ports", hf, recipe, pretrained, given, probe=probe, lora=lora))
