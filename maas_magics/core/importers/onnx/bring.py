"""An ONNX file becomes a version: looked at, asked in a process of its own, joined, compared, published."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError, MaasError, ModelError, OptionError
from maas_magics.api.requests import ImportRequest
from maas_magics.api.results import ModelInfo
from maas_magics.api.signature import Signature
from maas_magics.core.context import Context, versions
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.sources import open_source, typed
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.data.target import part, target_names
from maas_magics.core.data.target_values import Beside
from maas_magics.core.exporters.examples import DRAWN, ask, drawn_for
from maas_magics.core.exporters.export import TOLERANCE, export_to, metrics_of
from maas_magics.core.features.processor import Processor
from maas_magics.core.graph_model import GraphModel
from maas_magics.core.graphs.beside import save_beside
from maas_magics.core.importers.onnx.answers import expected_of, heads_of, task_of, with_labels
from maas_magics.core.importers.onnx.columns import Taken, columns_of, wanted_texts
from maas_magics.core.importers.onnx.joined import joined
from maas_magics.core.importers.onnx.source import (
    LARGEST,
    GraphInput,
    inputs_of,
    open_graph,
    parameters_of,
    scales_by_batch,
    unknown_operators,
)
from maas_magics.core.importers.onnx.trial import Answered, Unanswered, answers_of, checked
from maas_magics.core.networks.hub import digest_of
from maas_magics.core.seal.envelope import begin
from maas_magics.core.seal.files import is_sealed, put
from maas_magics.core.store.manifest import Manifest, seal, write_manifest
from maas_magics.core.store.sample import TARGET, write_sample
from maas_magics.core.store.storage import staging
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.heads import Heads

SAMPLE_ROWS = 1_000
"""Rows that are kept at most."""

GRAPH = "exports/onnx/model.onnx"


Compare = Callable[[pa.Table, Task, Array, Callable[[pa.Table], Array]], None]

Verify = Callable[[Mapping[str, Array], Sequence[Answered]], None]


@dataclass(frozen=True)
class Origin:
    """Where a graph comes from.

    Attributes
    ----------
    base : str
        What the user named.
    architecture : str
        What the version's network is called.
    compare : callable, optional
        Gets sample rows, the task, answers to the rows, and a function that answers others; raises where they are not
        those of what the graph was made of.
    labels : ndarray, optional
        As a classifier learnt them, in the order of its classes.
    verify : callable, optional
        Gets the inputs of the graph by name, and its answers; raises where they are not those of what it was made of.
    """

    base: str
    architecture: str = "onnx"
    compare: Compare | None = None
    labels: Array | None = None
    verify: Verify | None = None


def import_graph(file: Path, request: ImportRequest, context: Context, origin: Origin) -> ModelInfo:
    """Publish an ONNX file as a new version.

    Parameters
    ----------
    file : Path
        The file; weights may lie beside it.
    request : ImportRequest
        Its name, sample rows, and what their target is called.
    context : Context
        Where it becomes a model.
    origin : Origin
        Where it comes from.

    Raises
    ------
    ModelError
        If it cannot be opened, or answers nothing that is known here.
    """
    model = open_graph(file)
    inputs = inputs_of(model, file)
    rows = _Rows(request, inputs, context)
    processor = Processor.of((feature for each in rows.taken for feature in each.features), "raw")
    raw = processor.encode(rows.table) if rows.table is not None else drawn_for(processor)
    context.check_stop()
    with staging(context.store.work) as work:
        answered = _asked(file, model, inputs, rows.taken, raw, origin.verify)
        heads = with_labels(heads_of(model, answered, context.notify), origin.labels)
        task = task_of(heads, rows.target)
        context.check_stop()
        by_batch = scales_by_batch(model)
        whole, parameters = joined(model, rows.taken, heads, task), parameters_of(model)
        made, sealed = work / "model.onnx", is_sealed(file)
        if sealed:  # what was encrypted stays so
            begin(work)
        if whole.ByteSize() > LARGEST:
            save_beside(whole, made)
        else:
            put(made, whole.SerializeToString())
        del whole, model
        lineage = {"base": origin.base, "weights": f"sha256:{digest_of([file])}", **versions()}
        info = ModelInfo(
            name=request.name,
            version=0,
            task=task.task,
            architecture=origin.architecture,
            target=task.names,
            classes=task.labels if task.classes else (),
            created=time.time(),
            parameters=parameters,
            signature=Signature(processor.asked, task.specs),
            lineage=lineage,
        )
        manifest = Manifest(info=info, answers=task, plan={"imported": origin.base}, graph=GRAPH)
        graph = GraphModel(manifest, processor, made)
        decoded = _compared(graph, raw, expected_of(heads, task), file, by_batch)
        if rows.table is not None and origin.compare is not None:
            origin.compare(
                rows.table, task, decoded, lambda table: graph.run_hosted(processor.encode(rows.named(table)))
            )
        sample, graph = _kept(graph, rows, decoded, context)
        return _published(graph, sample, request.name, work, context, sealed)


class _Rows:
    """Sample rows, what of them is the target, and which columns become which inputs."""

    def __init__(self, request: ImportRequest, inputs: Sequence[GraphInput], context: Context) -> None:
        self.table: pa.Table | None = None
        self.values: Array | None = None
        self.target = request.target
        self._names: list[str] = []
        arrays = False
        if request.data is not None:
            texts, beside = wanted_texts(inputs), Beside()
            pair = isinstance(request.data, tuple) and len(request.data) == 2
            if pair or self.target is not None:
                named = target_names(self.target, (), -1) if self.target is not None else ()
                source, table, self.values, found = part(request.data, self.target, None, texts, beside)
                self.target = found if named else None
                self.values = self.values[:SAMPLE_ROWS]
            else:
                source = typed(open_source(request.data), texts)
                table = source.table()
            for note in beside.notes:
                context.notify(note)
            if not table.num_rows:
                raise DataError("The sample has no rows.", "Give at least one row.")
            self.table, arrays = table.slice(0, SAMPLE_ROWS), source.arrays
        self.taken = columns_of(inputs, self.table, arrays, request.column)
        if self.table is not None:
            names = [feature.name for each in self.taken for feature in each.features]
            self._names = names
            if arrays and len(names) == 1 and self.table.num_columns == 1:
                self.table = self.table.rename_columns(names)
            left = [name for name in self.table.column_names if name not in names]
            if left:
                context.notify(f"The graph takes no {', '.join(map(repr, left[:8]))}.")
            self.table = self.table.select(names)

    def named(self, table: pa.Table) -> pa.Table:
        """The columns of other rows that the graph takes."""
        return table.select(self._names)


def _asked(
    file: Path,
    model: Any,
    inputs: Sequence[GraphInput],
    taken: Sequence[Taken],
    raw: Sequence[Array],
    verify: Verify | None,
) -> list[Answered]:
    """What the file itself answers."""
    given: dict[str, Array] = {}
    start = 0
    for each in taken:
        given[each.input.name] = each.array(raw[start : start + len(each.features)])
        start += len(each.features)
    rows = len(raw[0])
    batch = max(one.batch for one in inputs)
    try:
        found = answers_of(file, given, batch)
        _check_lengths(file, given, inputs, batch, found)
    except Unanswered as error:
        unknown = unknown_operators(model)
        if unknown:
            raise ModelError(
                f"{file} has operators that ONNX Runtime does not know: {', '.join(unknown[:8])}.",
                "Export it with operators of ONNX and ai.onnx.ml alone.",
            ) from None
        hint = "Give rows that it was made for: --sample df" if rows == DRAWN else "Give rows that it was made for."
        raise ModelError(f"ONNX Runtime cannot answer with {file}: {error}", hint) from None
    answered = checked(found, rows, file)
    if verify is not None:
        verify(given, answered)
    return answered


def _check_lengths(
    file: Path,
    given: Mapping[str, Array],
    inputs: Sequence[GraphInput],
    batch: int,
    found: Sequence[Answered],
) -> None:
    """Raise `ModelError` where the length of an answer depends on that of an input."""
    if all(size > 0 for one in inputs for size in one.row):
        return
    longer = {
        one.name: np.concatenate([given[one.name][:2]] * 2, axis=1 + one.row.index(-1))
        if -1 in one.row
        else given[one.name][:2]
        for one in inputs
    }
    try:
        again = answers_of(file, longer, batch)
    except Unanswered:  # it takes rows of this length alone, whatever it says
        return
    for before, after in zip(found, again, strict=True):
        if before.values.shape[1:] != after.values.shape[1:]:
            raise ModelError(
                f"The output {before.name!r} of {file} is as long as its input, which no task here answers.",
                "Export it with an answer of one length for each row.",
            )


def _compared(graph: GraphModel, raw: Sequence[Array], expected: Array, file: Path, by_batch: bool) -> Array:
    """Answers of the whole, which are those of the file, in batches of several sizes, or in the same one."""
    try:
        decoded = graph.run_hosted(raw) if by_batch else ask(graph.run_hosted, raw)
    except MaasError as error:
        raise ModelError(
            f"{file} takes no batch of any size: {error.message}",
            "Export it with a batch of any size, such as dynamic_shapes={0: 'batch'}.",
        ) from None
    same = decoded.shape == expected.shape
    apart = graph.manifest.answers.difference(*graph.comparable(expected, decoded)) if same else np.inf
    if not apart <= TOLERANCE:
        raise ModelError(
            f"{file} answers rows otherwise in batches of another size, by up to {apart:.1e}. Nothing was published.",
            "Export it with a batch of any size, such as dynamic_shapes={0: 'batch'}.",
        )
    return decoded


def _kept(graph: GraphModel, rows: _Rows, decoded: Array, context: Context) -> tuple[pa.Table, GraphModel]:
    """Rows that are kept with a version, their encoded target among them, and the model with its metrics of them."""
    task, processor = graph.manifest.answers, graph.processor
    if rows.table is None:
        nothing = {feature.name: pa.nulls(0) for feature in processor.features}
        return pa.table({**nothing, TARGET: pa.nulls(0, pa.int64())}), graph
    sample = processor.kept(rows.table)
    if rows.values is None:
        context.notify("The sample has no answers: exports are judged by how the file itself answers it.")
        return sample.append_column(TARGET, column(_own(task, decoded), TARGET)), graph
    if isinstance(task, Heads):
        raise OptionError("A graph of several answers is imported without them.", "%evaluate scores it.")
    task.check_rows(rows.values)
    known = task.encode(rows.values)
    info = msgspec.structs.replace(graph.manifest.info, metrics=metrics_of(graph, decoded, known))
    scored = GraphModel(msgspec.structs.replace(graph.manifest, info=info), processor, graph.file)
    return sample.append_column(TARGET, column(known, TARGET)), scored


def _own(task: Task, decoded: Array) -> Array:
    """Answers as if they were the target."""
    if isinstance(task, Heads):
        parts = [_own(head, part) for head, part in zip(task.parts, task.answers_of(decoded), strict=True)]
        return np.concatenate([part.reshape(len(part), -1).astype(np.float32) for part in parts], axis=1)
    if task.classes:
        return task.encode(task.label_array[decoded.argmax(1)])
    return task.encode(decoded if not task.flat else decoded.reshape(-1))


def _published(graph: GraphModel, sample: pa.Table, name: str, work: Path, context: Context, sealed: bool) -> ModelInfo:
    staged = work / "version"
    staged.mkdir()
    if sealed:
        begin(staged)
    write_sample(staged, sample)
    write_manifest(staged, graph.manifest, graph.processor)
    export_to(staged, graph, "onnx", TOLERANCE, staged / "exports", name)
    seal(staged)
    context.check_stop()
    version = context.store.storage.publish(name, staged)
    return context.store.get(f"{name}:{version}")
