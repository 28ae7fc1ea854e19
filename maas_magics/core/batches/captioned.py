"""Pictures with captions, for a network that learns to draw the ones from the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.requests import is_named_split
from maas_magics.api.specs import DataSpec, Specs
from maas_magics.core.architectures import architectures
from maas_magics.core.batches.loaders import is_loader
from maas_magics.core.batches.noised import NoisedRows
from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.batches.refused import refuse_options
from maas_magics.core.batches.rows import held_share
from maas_magics.core.batches.training_rows import TrainingRows
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.prose import held_out
from maas_magics.core.data.roles import held_by, named_split
from maas_magics.core.data.sources import open_source
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.features.captions import caption_column, captions_of, check_there, pictures_of
from maas_magics.core.features.declared import declared
from maas_magics.core.features.fitting import Layout
from maas_magics.core.features.modalities import modality_of, options_of
from maas_magics.core.features.modalities.latent import LatentFeature
from maas_magics.core.features.modalities.text import TextFeature, trained
from maas_magics.core.features.module import Preprocessing
from maas_magics.core.features.noisy import Captioned
from maas_magics.core.features.processor import Processor
from maas_magics.core.features.tokens import token_counts
from maas_magics.core.store.sample import TARGET, digest
from maas_magics.core.tasks.denoising import Denoising, is_denoising

LAYOUT: Layout = "captioned"
"""Layout of the networks that draw pictures."""

KEPT = 200
"""Noisy pictures that are kept with a model, to verify exports on."""

EXAMPLE = 64
"""Rows that stand for those that the batches make."""


def of_pictures(specs: Specs) -> bool:
    """Whether a training is of pictures from captions."""
    return is_denoising(specs.task.task)


def with_painter(specs: Specs) -> Specs:
    """The same with the task and the network of pictures from captions, where either is named, or ``--text`` is.

    Raises
    ------
    OptionError
        If another network or another task is named with them.
    """
    named, task = specs.model.model, specs.task.task
    draws = isinstance(named, str) and named in architectures and architectures.get(named).layout == LAYOUT
    if not draws and not is_denoising(task) and specs.data.text is None:
        return specs
    if task is not None and not is_denoising(task):
        raise OptionError(f"The task {task} draws no pictures from captions.", "Drop --task, or --text and --model.")
    if not draws and named != "auto":
        shown = named if isinstance(named, str) else "A module of your own"
        raise OptionError(f"{shown} does not draw pictures.", "--model flow")
    model = named if draws else "flow"
    return specs.having("model", model=model).having("task", task=Denoising.task)


def check_pictures(specs: Specs) -> None:
    """Refuse what is not for pictures that are drawn from captions.

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
        "--features": bool(data.features),
        "--max-bad": bool(data.max_bad),
        "--class-weights": task.class_weights is not None,
        "--label-smoothing": bool(task.label_smoothing),
        "--loader-workers": specs.run.loader_workers is not None,
        "--cache": specs.run.cache is not None,
    }
    refuse_options(asked, "is not for pictures that are drawn from captions.")
    if specs.optimizer.lr == "auto":
        raise OptionError("A learning rate is found on rows in memory; these get new noise each time.", "--lr 1e-3")
    if is_loader(data.data):
        raise OptionError("Pictures are drawn from the captions of a table, not of a loader.", "Give a table.")
    if not isinstance(data.target, str):
        raise OptionError("The target is the column of the pictures to draw.", "--target picture --text caption")


def captioned_rows(specs: Specs, notify: Callable[[str], None]) -> TrainingRows:
    """Captions and pictures that a training is given, and what is fitted on them.

    Raises
    ------
    DataError
        If there is nothing to learn from, or it is not pictures and captions.
    """
    check_pictures(specs)
    data, seed, chosen = specs.data, specs.optimizer.seed, str(specs.model.model)
    picture, longest = str(data.target), int({**architectures.get(chosen).defaults, **specs.model.params}["words"])
    if not 1 <= longest <= 512:
        raise OptionError(f"words is {longest}; 1 to 512 tokens of a caption were expected.", "--set words=64")
    table = open_source(data.data, data.csv).table()
    caption = _check(table, data)
    size = _size(table, data, picture)
    texts, pixels = captions_of(table.column(caption)), pictures_of(table.column(picture), picture, size, notify)
    if len(texts) < 2:
        raise DataError("The data has no two rows.", "Give at least a few pictures to learn from.")
    train, held = _parted(table, data, seed)
    others = (texts, pixels) if held is not None else _read_held(data, caption, size)
    rows = train if held is not None else np.arange(len(texts))
    held = held if held is not None else np.arange(len(others[0]))
    learnt = [texts[row] for row in rows]
    if not any(text.strip() for text in learnt):
        raise DataError(f"Every caption of {caption!r} is empty.", "Give texts that say what the pictures show.")
    feature = TextFeature(caption, **trained(learnt), longest=longest)
    if cut := sum(count > longest for count in token_counts(feature.tokenizer, learnt)):
        notify(f"{cut:,} of {len(learnt):,} captions are longer than {longest} tokens, and are cut there.")
    shape = pixels.shape[1:]
    if others[1].shape[1:] != shape:
        raise DataError(
            f"The held-out pictures have the shape {others[1].shape[1:]}, and the others {shape}.",
            "Give held-out pictures of the same size.",
        )
    task = Denoising.of(picture, caption, shape)
    noisy = LatentFeature(f"noisy {picture}", row=shape, picture=True)
    processor = Processor.of((feature, noisy, LatentFeature(f"time of {picture}", row=(1,))), "ports")
    of_train = _captioned(feature, learnt, pixels[rows])
    of_held = _captioned(feature, [others[0][row] for row in held], others[1][held]) if len(held) else None
    colours = "in colour" if shape[0] == 3 else "in grey"
    notify(
        f"{len(of_train):,} pictures of {shape[1]} × {shape[2]} pixels {colours}, captions of {feature.size:,} tokens."
    )
    prepared = Prepared(
        processor,
        task,
        Preprocessing(processor),
        of_train.noised(torch.arange(min(EXAMPLE, len(of_train))), seed),
        of_held.measured(seed) if of_held is not None else None,
        _sample(processor, [others[0][row] for row in held] or learnt, of_held or of_train, seed),
        digest(pa.table({caption: learnt, picture: column(pixels[rows], picture)}), None),
    )
    return TrainingRows(chosen, LAYOUT, len(of_train), np.zeros(1), prepared, NoisedRows(of_train))


def _check(table: pa.Table, data: DataSpec) -> str:
    """Name of the column of captions, of rows that have both."""
    if not table.num_rows:
        raise DataError("The data has no rows.", "Give at least a few pictures to learn from.")
    check_there(table, str(data.target))
    return caption_column(table, data.text, str(data.target))


def _size(table: pa.Table, data: DataSpec, picture: str) -> int | None:
    """Pixels of the sides that were declared."""
    if other := next((name for name in data.feature if name != picture), None):
        raise OptionError(f"--feature {other} is not of the pictures that are drawn.", f"--feature {picture}=image(…)")
    field = declared(table.select([picture]), data.feature, lambda text: None).schema.field(picture)
    if data.feature and modality_of(field) != "image":
        raise OptionError(f"{picture!r} is drawn: it is a picture.", f"--feature {picture}=image(size=32)")
    asked = options_of(field).get("size")
    if asked is not None and (not asked.isdigit() or not 4 <= int(asked) <= 512):
        raise OptionError(f"size is {asked!r}; 4 to 512 pixels were expected.", f"--feature {picture}=image(size=32)")
    return None if asked is None else int(asked)


def _parted(table: pa.Table, data: DataSpec, seed: int) -> tuple[Array, Array | None]:
    """Places of the rows to learn from, and of the held-out ones; of these None where they are other rows."""
    asked = data.validation
    if is_named_split(asked):
        split = named_split(asked)
        assert split is not None
        check_there(table, split.column)
        out = held_by(split, table.column(split.column), seed)
        return np.flatnonzero(~out), np.flatnonzero(out)
    if asked is None or isinstance(asked, (int, float)):
        return held_out(table.num_rows, held_share(asked), seed)
    return np.arange(table.num_rows), None


def _read_held(data: DataSpec, caption: str, size: int | None) -> tuple[list[str], Array]:
    """Captions and pictures of other rows, which are held out."""
    other, picture = open_source(data.validation, data.csv).table(), str(data.target)
    for name in (picture, caption):
        check_there(other, name)
    return captions_of(other.column(caption)), pictures_of(other.column(picture), picture, size, lambda text: None)


def _captioned(feature: TextFeature, texts: list[str], pixels: Array) -> Captioned:
    raw = np.array(texts, dtype=object).reshape(-1, 1)
    return Captioned(torch.from_numpy(feature.enter(raw)), torch.from_numpy(pixels), feature.padding)


def _sample(processor: Processor, texts: list[str], rows: Captioned, seed: int) -> pa.Table:
    """Captions with noisy pictures, and velocities, to ask an export with."""
    few = min(KEPT, len(rows))
    (*_, noisy, time), target = rows.noised(torch.arange(few), seed, dropped=0.0)
    caption, picture, clock = processor.names
    columns: dict[str, Any] = {
        caption: texts[:few],
        picture: column(noisy.numpy(), picture),
        clock: column(time.numpy(), clock),
        TARGET: column(target.numpy(), TARGET),
    }
    return pa.table(columns)
