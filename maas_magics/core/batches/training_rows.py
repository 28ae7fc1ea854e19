"""The rows of a training: read, profiled, and given out in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor, nn

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.requests import TrainRequest, is_named_split, specs_of
from maas_magics.api.specs import DataSpec, Specs
from maas_magics.core.architectures import architectures
from maas_magics.core.batches import loaders
from maas_magics.core.batches.batches import Batches, InMemory, rows_at_once
from maas_magics.core.batches.decoded import parsed_size
from maas_magics.core.batches.inputs import chosen_of
from maas_magics.core.batches.layout import as_array, by_ports, layout_of, one_by_name, standardises
from maas_magics.core.batches.lazy import Lazy
from maas_magics.core.batches.masks import has_pictures, not_of_pixels, with_masks
from maas_magics.core.batches.noised import NoisedRows
from maas_magics.core.batches.own_module import own_module
from maas_magics.core.batches.pairs import declared_pairs, paired
from maas_magics.core.batches.prepare import Counts, Prepared, prepare
from maas_magics.core.batches.resolved_target import ResolvedTarget, decided
from maas_magics.core.batches.rows import Rows, read
from maas_magics.core.batches.streaming import Stream, first_rows, streamed_source
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.arrow import is_text as is_text_column
from maas_magics.core.data.labels import is_text
from maas_magics.core.data.masked import is_masked, may_be_masks
from maas_magics.core.data.sources import Rereadable
from maas_magics.core.data.spanned import is_list_of_spans, is_spanned
from maas_magics.core.data.tagged import is_lists_of_text, is_tagged
from maas_magics.core.data.target import target_names
from maas_magics.core.data.target_values import Beside, lists_of_labels
from maas_magics.core.features.augment import check_taken
from maas_magics.core.features.augment import parsed as parsed_augment
from maas_magics.core.features.declared import declared
from maas_magics.core.features.fitting import Layout
from maas_magics.core.features.modalities import modalities, modality_of
from maas_magics.core.features.profile import image_like
from maas_magics.core.features.spanned import as_tags, with_texts
from maas_magics.core.features.tagged import WORDS, check_tags, with_words
from maas_magics.core.losses.heads import parsed
from maas_magics.core.losses.ignored import ignored_by
from maas_magics.core.networks.outputs import SeveralHeads, rows_of
from maas_magics.core.tasks.several import heads_of
from maas_magics.core.tracing import training_lock


@dataclass(frozen=True)
class TrainingRows:
    """Name and layout of the architecture, and what is fitted on the training rows.

    ``learnt`` holds their targets as they came, or the extremes of them where the rows are streamed; ``whole`` every
    column but the target's as it came, where a teacher is asked and the rows are in memory.
    """

    chosen: str
    layout: Layout
    rows: int
    learnt: Array
    prepared: Prepared
    stream: Stream | Lazy | NoisedRows | None = None
    whole: pa.Table | None = None

    @contextmanager
    def batches(
        self,
        prepared: Prepared,
        size: int,
        device: torch.device,
        folder: Path,
        draw: Callable[[torch.Generator], Tensor] | None,
        counting: Counts,
    ) -> Iterator[tuple[Batches, Batches | None]]:
        """Batches of the training rows and the held-out ones, for as long as the block lasts.

        Parameters
        ----------
        prepared : Prepared
            With the target that the network learns.
        size : int
            Rows of a batch.
        device : torch.device
        folder : Path
            Where there is room for files.
        draw : callable, optional
            Draws the order of an epoch.
        counting : Counts
            Puts the weights of rows beside their target.
        """
        if self.stream is not None:
            with self.stream.written(prepared, folder, size, device, counting) as batches:
                yield batches
            return
        (inputs, target), held, (weights, others) = prepared.train, None, prepared.weights or (None, None)
        train = inputs, counting.joined(target, weights)
        if prepared.validation is not None:
            inputs, target = prepared.validation
            held = _in_memory((inputs, counting.joined(target, others, held=True)), size, device)
        yield _in_memory(train, size, device, draw), held


def training_rows(
    specs: Specs,
    meant: ResolvedTarget,
    notify: Callable[[str], None],
    pause: Callable[[], None] = lambda: None,
) -> TrainingRows:
    """The rows that a training is given, and what is fitted on them.

    Parameters
    ----------
    specs : Specs
    meant : ResolvedTarget
        What the target is.
    notify : callable
        Gets a sentence about everything that is left out.
    pause : callable
        Called between two chunks of a file; may raise to end the reading.

    Raises
    ------
    DataError
        If a model cannot be trained on them.
    """
    data, model, loss, seed = specs.data, specs.model.model, specs.task.loss, specs.optimizer.seed
    if data.inputs and (isinstance(model, str) or data.stream):
        what = "rows that are read from disk" if data.stream else "an architecture by name"
        raise OptionError(f"--inputs names arguments of a module's forward; {what} have one input.", "Drop --inputs.")
    augment = parsed_augment(data.augment)
    heads, pairs = heads_of(_target_of(data), meant.several), data.pairs
    in_memory = data.inputs or pairs or not _from_columns(heads, data)
    source = None if in_memory else streamed_source(data, notify, bool(heads))
    if source is not None and not heads and _are_several(source, data.target):
        raise SeveralHeads
    if source is not None:
        streams, files = True, False
        if by_ports(model):
            streams, files = _streams(source, data, notify, _reads_texts(model, specs.model.params))
        if augment and not files:
            if data.stream:
                raise OptionError("Of streamed rows only pictures and sounds are augmented.", "Drop --augment.")
            streams = False
        source = source if streams else None
    if source is not None:
        if specs.run.loader_workers is not None and not files:
            raise loaders.no_loader_workers()
        if specs.run.cache is not None and not files:
            raise _no_cache()
        stream = Stream(
            data, model, loss, seed, source, meant.task, notify, pause, heads=heads, params=specs.model.params,
            augment=augment, workers=specs.run.loader_workers or 0, cache=parsed_size(specs.run.cache),
        )  # fmt: skip
        check_taken(augment, stream.prepared.processor)
        return TrainingRows(stream.chosen, stream.layout, stream.rows, stream.extremes, stream.prepared, stream)
    beside = Beside(ignored=lambda: ignored_by(loss))
    asks = specs.task.teacher is not None
    train_rows, validation, names, array = read(data, seed, meant.task, notify, beside, meant.several, asks)
    whole = train_rows.whole
    if len(names) > 1 and is_text(train_rows.target):
        raise SeveralHeads  # texts among several columns are labels of one, which no single target of several is
    if data.inputs:
        array, train_rows = True, chosen_of(train_rows, data.inputs)
        validation = None if validation is None else chosen_of(validation, data.inputs)
    if one_by_name(model, data.data, train_rows.table) and not _has_gaps(train_rows, validation):
        array, train_rows = True, as_array(train_rows)
        validation = None if validation is None else as_array(validation)
    if pairs:
        names = (pairs[0], pairs[1])
        train_rows = paired(train_rows, *names, notify)
        validation = None if validation is None else paired(validation, *names, lambda text: None)
    kinds = data.feature
    masks = False
    if is_masked(train_rows.target) or (may_be_masks(train_rows.target) and has_pictures(train_rows, data)):
        train_rows, validation, void = with_masks(data, model, train_rows, validation, names[0], notify)
        beside.no_target, masks = beside.no_target if void is None else void, True
    elif is_spanned(train_rows.target):
        kinds, train_rows, validation = _texts_of(specs, train_rows, validation, names[0], notify)
    elif is_tagged(train_rows.target):
        kinds = _words_of(specs, train_rows, validation, names[0], ports=by_ports(model))
    if pairs:
        train_rows = replace(train_rows, table=declared_pairs(train_rows.table, kinds, notify))
    elif by_ports(model):
        texts = _reads_texts(model, specs.model.params)
        train_rows = replace(train_rows, table=declared(train_rows.table, kinds, notify, texts=texts))
    elif data.feature:
        raise OptionError(
            "--feature says what a column is to a network that reads texts.", "Drop --feature, or --model."
        )
    wanted = "unet" if model == "auto" and (masks or _of_pixels(train_rows)) else model
    chosen, layout = layout_of(wanted, train_rows.table, array)
    if masks and not architectures.get(chosen).of_pixels:
        raise not_of_pixels(chosen)
    given = architectures.get(chosen).given if isinstance(model, str) else None

    def standardise(head: str) -> bool:
        own = loss.get(head, "auto") if isinstance(loss, Mapping) else loss
        return not meant.raw and standardises(own, isinstance(model, str), layout == "raw")

    prepared = prepare(
        train_rows,
        validation,
        names,
        layout=layout,
        scale=data.preprocess == "auto",
        task=meant.task,
        standardise=standardise,
        notify=notify,
        asked_target=_target_of(data),
        labels=is_named_split(data.validation),
        beside=beside,
        given=given(specs.model.params) if given is not None else None,
        lazy=bool(augment),
    )
    check_taken(augment, prepared.processor)
    if specs.run.cache is not None and all(feature.costly is None for feature in prepared.processor.features):
        raise _no_cache()
    lazy = None
    encoded = bool(augment) or prepared.processor.lazy
    if specs.run.loader_workers is not None and not encoded:
        raise loaders.no_loader_workers()
    if encoded:
        group, cache = 2 if pairs else 1, parsed_size(specs.run.cache)
        workers = specs.run.loader_workers or 0
        lazy = Lazy(train_rows, validation, workers, seed, augment, group, cache, notify, masks=masks)
    elif pairs:
        raise OptionError("Pairs are of texts, pictures or sounds.", f"--feature {pairs[0]}=text")
    return TrainingRows(chosen, layout, len(train_rows), train_rows.target, prepared, lazy, whole)


def _no_cache() -> OptionError:
    return OptionError("--cache keeps what pictures and sounds hold; these rows have none.", "Drop --cache.")


def _from_columns(heads: Mapping[str, Any], data: DataSpec) -> bool:
    """Whether each of several targets, if there are several, is a column of the rows.

    Raises
    ------
    OptionError
        If they are not, and streaming was requested.
    """
    if all(target_names(of, (), -1) for of in heads.values()):
        return True
    if data.stream:
        raise OptionError("The targets of rows that are streamed are columns of them.", "--target a,b")
    return False


def _streams(source: Rereadable, data: DataSpec, notify: Callable[[str], None], texts: bool) -> tuple[bool, bool]:
    """Whether the rows of a file are streamed, and whether some of them are pictures or sounds.

    Those with texts, whose lengths differ, and with tags are read into memory.

    Raises
    ------
    DataError
        If streaming was requested.
    """
    first = next(iter(source.chunks(first_rows(source))), None)
    if first is None:
        return True, False
    left = [name for name in first.column_names if name not in target_names(data.target, first.column_names, -1)]
    kinds = {name: kind for name, kind in data.feature.items() if name in left}
    others = [first.column(name) for name in first.column_names if name not in left]
    whole = any(is_lists_of_text(one.type) or is_list_of_spans(one.type) for one in others)
    schema = declared(first.select(left), kinds, lambda text: None, texts=texts).schema
    each = [modalities.get(modality_of(field)).feature for field in schema if modality_of(field)]
    if not whole and all(feature.binary for feature in each):
        return True, bool(each)
    if data.stream:
        raise DataError("Texts and tags are trained on from memory.", "Drop --stream.")
    notify("A column holds texts or tags: the rows are read into memory.")
    return False, False


def _words_of(specs: Specs, train: Rows, held: Rows | None, name: str, *, ports: bool) -> dict[str, str]:
    """Kinds of columns for a target of tags, one for each word of a column."""
    data = specs.data
    if not isinstance(specs.model.model, str):
        raise lists_of_labels(name)
    kinds = with_words(train.table, train.target, name, data.feature)
    _check_entities(specs, ports=ports)
    if held is not None:
        words = next(column for column, kind in kinds.items() if kind == WORDS)
        if words in held.table.column_names:
            check_tags(held.table.column(words), held.target, words, name)
    return kinds


def _check_entities(specs: Specs, *, ports: bool) -> None:
    if specs.data.weights is not None:
        raise OptionError("Rows of the task entities count alike.", "Drop --weights.")
    if not ports:
        raise OptionError(
            f"The architecture {specs.model.model!r} does not answer each word.", "--model auto, or transformer."
        )


def _texts_of(
    specs: Specs, train: Rows, held: Rows | None, name: str, notify: Callable[[str], None]
) -> tuple[dict[str, str], Rows, Rows | None]:
    """Kinds of columns for a target of spans, and the rows with tags of words as their target."""
    if not isinstance(specs.model.model, str):
        raise OptionError("Spans are learnt by an architecture by name.", "--model auto, transformer, or hf:FOLDER")
    _check_entities(specs, ports=by_ports(specs.model.model))
    kinds, column = with_texts(train.table, name, specs.data.feature)

    def tagged(rows: Rows, notify: Callable[[str], None]) -> Rows:
        if column not in rows.table.column_names:
            raise DataError(f"The validation data has no column {column!r}.", "--validation 0.2")
        return replace(rows, target=as_tags(rows.table.column(column), rows.target, column, name, notify))

    return kinds, tagged(train, notify), None if held is None else tagged(held, lambda text: None)


def _are_several(source: Rereadable, target: Any) -> bool:
    """Whether columns of a file are targets of their own: some hold text, which no single target of several does."""
    names = target_names(target, (), -1)
    first = next(iter(source.chunks(1)), None) if len(names) > 1 else None
    return first is not None and any(
        name in first.column_names and is_text_column(first.schema.field(name).type) for name in names
    )


def _of_pixels(rows: Rows) -> bool:
    """Whether rows are arrays of pictures, with a class for each of their pixels."""
    if not may_be_masks(rows.target) or not image_like(rows.table.schema, 4):
        return False
    shape = tuple(rows.table.schema.types[0].shape)
    return rows.target.shape[1:] in (shape[:2], shape[-2:])


def _reads_texts(model: Any, params: Mapping[str, Any]) -> bool:
    """Whether a network by name is one for texts, from scratch or of a folder."""
    if not isinstance(model, str) or model == "auto":
        return False
    architecture = architectures.get(model)
    return architecture.of_texts or (architecture.given is not None and "text" in architecture.given(dict(params)))


def _has_gaps(train: Rows, held: Rows | None) -> bool:
    return any(rows is not None and rows.table.column(0).null_count for rows in (train, held))


def _target_of(said: DataSpec) -> Any:
    pair = isinstance(said.data, tuple) and len(said.data) == 2
    return said.data[1] if said.target is None and pair else said.target


class ModuleAsTrained(NamedTuple):
    """A module, and what it is traced with.

    Attributes
    ----------
    net : nn.Module
    rows : tuple of Tensor
        A few rows that it takes.
    names : tuple of str
        Of its arrays, where it takes each by itself.
    open_axes : tuple of tuple of int
        Axes of each, besides the batch, that may have any length.
    heads : dict of str to tuple of int
        Shape of each head's answer for a row, by its name, where there are several.
    """

    net: nn.Module
    rows: tuple[Tensor, ...]
    names: tuple[str, ...]
    open_axes: tuple[tuple[int, ...], ...]
    heads: dict[str, tuple[int, ...]]


def module_and_rows(
    request: TrainRequest,
) -> ModuleAsTrained:
    """The module of a request as its training begins.

    For a place that trains it elsewhere: what is fitted on the rows is fitted there once more.
    """

    def made(specs: Specs, meant: ResolvedTarget) -> tuple[nn.Module, Prepared, Layout]:
        torch.manual_seed(specs.optimizer.seed)
        found = training_rows(specs, meant, lambda text: None)
        prepared, layout = found.prepared, found.layout
        return *own_module(specs.model, specs.task, specs.data, prepared, layout, lambda text: None), layout

    with training_lock(), torch.random.fork_rng(devices=[]):
        specs = specs_of(request)
        net, prepared, layout = decided(specs.having("task", **parsed(specs.task)), made)
    arrays = tuple(prepared.processor.names) if layout == "raw" else ()
    heads = dict(zip(prepared.answers.names, rows_of(net), strict=False)) if prepared.answers.parts else {}
    rows = tuple(x[:8] for x in prepared.train[0])
    return ModuleAsTrained(net, rows, arrays, prepared.processor.open_axes, heads)


def _in_memory(
    rows: Any, size: int, device: torch.device, draw: Callable[[torch.Generator], Tensor] | None = None
) -> InMemory:
    inputs, target = rows
    inputs = tuple(x.to(device) for x in inputs)
    return InMemory(inputs, target.to(device), size, measure=rows_at_once(inputs), draw=draw)
