"""What is behind `%evaluate`: a model scored on rows that have the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from maas_magics.api.errors import DataError, OptionError, did_you_mean
from maas_magics.api.requests import EvaluateRequest
from maas_magics.api.results import Metrics
from maas_magics.core.context import Context
from maas_magics.core.data.arrow import Array, as_text, is_text, read_numbers
from maas_magics.core.data.interleave import interleaved
from maas_magics.core.data.labels import TEXT
from maas_magics.core.data.masked import is_masked, may_be_masks
from maas_magics.core.data.media import leaving_out
from maas_magics.core.data.prose import columns_of, prose_table
from maas_magics.core.data.roles import weights_of
from maas_magics.core.data.sources import Rereadable, Source, is_files, notes_of, open_source, typed
from maas_magics.core.data.spanned import is_spanned
from maas_magics.core.data.target import mostly, named, part, target_names
from maas_magics.core.data.target_values import Beside, answered, left_out
from maas_magics.core.exporters import Run
from maas_magics.core.exporters.opened import open_variant
from maas_magics.core.features.masked import as_masks
from maas_magics.core.features.spanned import as_tags
from maas_magics.core.features.tagged import check_tags
from maas_magics.core.features.unreadable import checks_for, readable, share_of
from maas_magics.core.inference.drawn import draws
from maas_magics.core.inference.gather import gather
from maas_magics.core.inference.predictor import CHUNK, InSeveralPasses, Predictor
from maas_magics.core.inference.surprise import surprise
from maas_magics.core.inference.velocities import velocities
from maas_magics.core.inference.worst import Worst
from maas_magics.core.inference.written import writes
from maas_magics.core.model import Model
from maas_magics.core.tasks import metrics as figures
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.baseline import baseline
from maas_magics.core.tasks.metric_names import make_metrics
from maas_magics.core.tasks.several import given_heads, part_heads


def evaluate(request: EvaluateRequest, context: Context) -> Metrics:
    """Score a model on rows that have the answers.

    Raises
    ------
    DataError
        If the rows lack the target.
    """
    share_of(request.max_bad)
    try:
        predictor = context.loader.predictor(request.model)
    except InSeveralPasses:
        if draws(request.model, context.loader):
            return _of_pictures(request, context)
        if not writes(request.model, context.loader):
            raise
        return _of_texts(request, context)
    answers = predictor.answers
    pair = isinstance(request.data, tuple) and len(request.data) == 2
    target = request.target
    if target is None and not pair:
        target = _columns(answers)
    worst, weighed = Worst(predictor.processor, answers), Weighed(predictor.weights)
    with leaving_out():
        decoded, known = _scored(predictor, request, target, context.notify, worst, weighed)
    outputs = answers.table(torch.from_numpy(np.ascontiguousarray(decoded)))
    weights = weighed.weights(len(decoded))
    if weights is not None:
        weights = answers.row_weights(weights)
    elif predictor.weights:
        context.notify(
            f"{predictor.ref} was trained with the weights {predictor.weights!r}; here every row counts alike."
        )
    outputs, wanted, weights = answers.scored(outputs, torch.from_numpy(known), weights)
    there = find_spec("torchmetrics") is not None
    trained = tuple(name for name in predictor.metrics if there or not name[:1].isupper())
    metrics = make_metrics(request.metrics or trained, answers)
    one_label = answers.decision == "likeliest" and not answers.of_words
    return Metrics(
        model=predictor.ref,
        rows=len(decoded) // (2 if answers.of_pairs else 1),
        values=figures.evaluate(metrics, outputs, wanted, weights),
        baseline=baseline(metrics, answers, wanted, weights),
        classes=answers.labels if one_label else (),
        confusion=figures.confusion(outputs, wanted) if one_label else [],
        worst=worst.examples(),
    )


def _answering(ref: str, context: Context) -> tuple[str, Model, Run | None]:
    """What a reference names, its version in torch, and the export of it that answers where it names one."""
    name, version, variant = context.store.find(ref)
    model = context.loader.model(name, version)
    if not variant:
        return f"{name}:{version}", model, None
    return f"{name}:{version}@{variant}", model, open_variant(model, context.store.folder(name, version), variant)


def _of_texts(request: EvaluateRequest, context: Context) -> Metrics:
    """Score a model that writes, by how surprised it is by texts."""
    ref, model, run = _answering(request.model, context)
    answers, names = model.manifest.answers, model.manifest.answers.names
    if request.target is not None and not isinstance(request.target, str):
        raise OptionError("The target of a model that writes is the column of the answers.", "--target answer")
    table = prose_table(request.data, request.csv)
    target = request.target or (names[1] if len(names) > 1 else None)
    columns = columns_of(table, names[:1] if names[0] in table.column_names else (), target)
    outputs, sizes = surprise(model, table, columns, run)
    if not bool((sizes > 0).any()):
        raise DataError("The texts have no token to score.", "Give longer texts.")
    metrics = make_metrics(request.metrics or model.manifest.metrics, answers)
    return Metrics(
        model=ref,
        rows=table.num_rows,
        values=figures.evaluate(metrics, outputs, sizes, None),
        baseline=baseline(metrics, answers, sizes, None),
    )


def _of_pictures(request: EvaluateRequest, context: Context) -> Metrics:
    """Score a model that draws, by the velocities that it answers to noisy pictures."""
    ref, model, run = _answering(request.model, context)
    answers = model.manifest.answers
    if request.target is not None and not isinstance(request.target, str):
        raise OptionError("The target of a model that draws is the column of the pictures.", "--target picture")
    outputs, wanted, rows = velocities(model, request.data, request.target, request.csv, run)
    metrics = make_metrics(request.metrics or model.manifest.metrics, answers)
    known = answers.truth(wanted)
    return Metrics(
        model=ref,
        rows=rows,
        values=figures.evaluate(metrics, answers.table(outputs), known, None),
        baseline=baseline(metrics, answers, known, None),
    )


class Weighed:
    """Weights of the rows that are scored, where their column is among them.

    Parameters
    ----------
    name : str
        Of the column; empty where a model was trained without.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._parts: list[Array] = []

    def begin(self) -> None:
        """Forget the rows so far: they are read once more."""
        self._parts = []

    def add(self, table: pa.Table) -> None:
        """Take in rows.

        Raises
        ------
        DataError
            If a weight is missing, or below 0.
        """
        if self._name in table.column_names:
            self._parts.append(weights_of(self._name, table.column(self._name)))

    def weights(self, rows: int) -> torch.Tensor | None:
        """Weights of all rows, float64 (n,); None where not every row has one, or none weighs anything."""
        found = np.concatenate(self._parts) if self._parts else np.zeros(0)
        return torch.from_numpy(found) if len(found) == rows and found.sum() > 0 else None


def _columns(answers: Task) -> Any:
    """Names of the columns that a model answers: a dict of them where there are several heads."""
    if answers.parts:
        return {name: _columns(head) for name, head in zip(answers.names, answers.parts, strict=True)}
    return answers.names[0] if len(answers.names) == 1 else answers.names


def _scored(
    predictor: Predictor,
    request: EvaluateRequest,
    target: Any,
    notify: Callable[[str], None],
    worst: Worst,
    weighed: Weighed,
) -> tuple[Array, Array]:
    """Answers and target of every row that has one; of a file, only a chunk of its rows is in memory."""
    data, csv = request.data, request.csv
    if predictor.answers.parts:
        return _scored_heads(predictor, predictor.answers, request, target, notify)
    if predictor.answers.of_pairs:
        return _scored_pairs(predictor, data, csv, notify)
    source = open_source(data, csv) if isinstance(data, Rereadable) or is_files(data) else None
    column = _of_one_column(predictor.answers, target, source or data, csv)
    listed, target = column is not target, column
    names = target_names(target, (), -1)
    texts = _texts_of(predictor, names)
    for note in notes_of(source) if source is not None else ():
        notify(note)
    if not isinstance(source, Rereadable) or not names or listed or share_of(request.max_bad):
        beside = Beside()
        source, table, values, _ = part(source or data, target, None if source else csv, texts, beside)
        table, values, beside.bad = _readable(predictor, request, table, values)
        weighed.add(table)
        for note in beside.notes:
            notify(note)
        values = _masks(predictor, table, _tags(predictor, table, values, notify))
        predictor.answers.check_rows(values)
        _check_tags(predictor, table, values)
        known = predictor.answers.known(values)
        for text in predictor.processor.cautions(table):
            notify(text)
        parts = (
            {"": _decoded(predictor, table.slice(start, CHUNK), source, known[start : start + CHUNK], worst)}
            for start in range(0, table.num_rows, CHUNK)
        )
        return gather(parts, table.num_rows)[""], known
    source = typed(source, texts)
    assert isinstance(source, Rereadable)
    assumed: list[str] = []
    while (scored := _scored_chunks(predictor, source, names, assumed.append, worst, weighed)) is None:
        pass  # the type of the target turned out to be a wider one, and is known now
    for text in dict.fromkeys(assumed):
        notify(text)
    return scored


def _of_one_column(answers: Task, target: Any, data: Any, csv: str | None) -> Any:
    """The target, by the name of the one column of lists that its numbers came from, where that is what is there."""
    names = target_names(target, (), -1)
    stem = names[0].removesuffix("0") if len(names) > 1 else ""
    if not stem or names != answers.names or names != tuple(f"{stem}{place}" for place in range(len(names))):
        return target
    source = open_source(data, csv)
    first = next(iter(source.chunks(1)), None)
    return stem if first is not None and stem in first.column_names and names[0] not in first.column_names else target


def _readable(
    predictor: Predictor, request: EvaluateRequest, table: pa.Table, values: Array
) -> tuple[pa.Table, Array, str]:
    """Rows and their target without those whose files cannot be read, where that was requested, with a sentence."""
    if not share_of(request.max_bad):
        return table, values, ""
    kept, told = readable(table, values, checks_for(predictor.processor.features), request.max_bad)
    return (table, values, told) if kept is None else (table.filter(pa.array(kept)), values[kept], told)


def _scored_pairs(
    predictor: Predictor, data: Any, csv: str | None, notify: Callable[[str], None]
) -> tuple[Array, Array]:
    """Vectors of the two values of each row, one after the other, and their numbers."""
    source = typed(open_source(data, csv), predictor.answers.names)
    table = source.table()
    lacking = next((name for name in predictor.answers.names if name not in table.column_names), None)
    if lacking is not None:
        raise DataError(f"There is no column {lacking!r}.", did_you_mean(lacking, table.column_names))
    one, other = (as_text(table.column(name)) for name in predictor.answers.names)
    values, known, left = interleaved(one, other)
    if left:
        notify(f"{left:,} of {table.num_rows:,} pairs lack a value and are left out.")
    if not len(known):
        raise DataError("No row has both values.", "Give rows of two values.")
    rows = pa.table({predictor.processor.names[0]: values})
    slices = (rows.slice(start, CHUNK) for start in range(0, len(known), CHUNK))
    return gather(({"": predictor.decoded(predictor.encode(part, source))} for part in slices), len(known))[""], known


def _texts_of(predictor: Predictor, names: Sequence[str]) -> list[str]:
    """Columns that a model takes as text, and its target where its labels are texts."""
    answers = predictor.answers
    text = answers.kind in ("", TEXT) and any(isinstance(label, str) for label in answers.classes)
    return predictor.processor.texts + (list(names) if text or answers.writes else [])


def _scored_chunks(
    predictor: Predictor,
    source: Rereadable,
    names: Sequence[str],
    caution: Callable[[str], None],
    worst: Worst,
    weighed: Weighed,
) -> tuple[Array, Array] | None:
    worst.begin()
    weighed.begin()
    parts: list[tuple[Array, Array]] = []
    dtype: Any = None
    unknown: DataError | None = None
    all_rows = kept = 0
    for rows in source.chunks(CHUNK):
        features, columns = named(rows, names)
        beside = Beside()
        beside.meet([rows.schema.field(name) for name in names], columns)
        if beside.empty:
            caution(beside.empty)
        if predictor.answers.numeric:  # as they were learnt: the few texts among numbers are not answers
            columns = [read_numbers(each) if is_text(each.type) and mostly(each) else each for each in columns]
        features, values = answered(features, names, columns)
        all_rows, kept = all_rows + rows.num_rows, kept + len(values)
        if not len(values):
            continue
        if dtype not in (None, values.dtype):
            return None
        dtype = values.dtype
        weighed.add(features)
        for text in predictor.processor.cautions(features):
            caution(text)
        values = _masks(predictor, features, _tags(predictor, features, values))
        predictor.answers.check_rows(values)
        _check_tags(predictor, features, values)
        try:
            known = predictor.answers.known(values)
        except DataError as error:  # the rest of the file may show that these were texts, not whole numbers
            unknown = unknown or error
        if unknown is None:
            parts.append((_decoded(predictor, features, source, known, worst), known))
    if unknown is not None:
        raise unknown
    if not parts:
        raise DataError(f"The target {', '.join(names)!r} is missing in every row.", "Give rows with the answers.")
    left = left_out(all_rows, kept, names)
    if left:
        caution(left)
    found = gather(({"decoded": decoded, "known": known} for decoded, known in parts), None)
    return found["decoded"], found["known"]


def _tags(
    predictor: Predictor, table: pa.Table, values: Array, notify: Callable[[str], None] = lambda text: None
) -> Array:
    """Spans of texts as tags of words, for a model that learnt spans; any other target as it is."""
    column = next((feature.name for feature in predictor.processor.features if feature.spanned), "")
    if bool(column) != is_spanned(values) and len(values):
        given, known = ("spans of texts", "tags of words") if is_spanned(values) else ("no spans", "spans of texts")
        if column or predictor.answers.of_words:
            raise DataError(f"The target holds {given}; the model was trained on {known}.", "Give those.")
    if not column or not len(values):
        return values
    if column not in table.column_names:
        raise DataError(f"There is no column {column!r}.", did_you_mean(column, table.column_names))
    return as_tags(table.column(column), values, column, predictor.answers.names[0], notify)


def _masks(predictor: Predictor, table: pa.Table, values: Array) -> Array:
    """Masks as the model sees the pictures that they are of; any other target as it is."""
    feature = next((feature for feature in predictor.processor.features if feature.masked), None)
    if not may_be_masks(values):
        return values
    if feature is None or not predictor.answers.row:
        if is_masked(values):
            raise DataError("The target holds masks, which the model does not answer.", "Give its labels.")
        return values
    if feature.name not in table.column_names:
        raise DataError(f"There is no column {feature.name!r}.", did_you_mean(feature.name, table.column_names))
    return as_masks(feature, table.column(feature.name), values, predictor.answers.names[0])


def _decoded(predictor: Predictor, table: pa.Table, source: Source, known: Array, worst: Worst) -> Array:
    """Answers to some rows; the worst of them are kept."""
    raw = predictor.encode(table, source)
    decoded = predictor.decoded(raw)
    worst.add(raw, decoded, known)
    return decoded


def _check_tags(predictor: Predictor, table: pa.Table, values: Array) -> None:
    """Raise `DataError` where rows have not as many tags as words, of a model that tags words."""
    column = next((feature.name for feature in predictor.processor.features if feature.answered), "")
    if column in table.column_names:
        check_tags(table.column(column), values, column, predictor.answers.names[0])


def _scored_heads(
    predictor: Predictor, answers: Task, request: EvaluateRequest, target: Any, notify: Callable[[str], None]
) -> tuple[Array, Array]:
    """Answers and targets of every row, of several heads."""
    data, csv = request.data, request.csv
    if target is None and isinstance(data, tuple) and len(data) == 2:
        data, target = data
    source, table, values = part_heads(data, given_heads(target, answers.names), csv, predictor.processor.texts)
    table, values, bad = _readable(predictor, request, table, values)
    for note in (*notes_of(source), *filter(None, [bad])):
        notify(note)
    answers.check_rows(values)
    slices = (table.slice(start, CHUNK) for start in range(0, table.num_rows, CHUNK))
    found = gather(({"": predictor.decoded(predictor.encode(rows, source))} for rows in slices), table.num_rows)
    return found[""], answers.known(values)
