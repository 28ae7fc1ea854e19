"""A fitted estimator becomes a version, whose answers are those of the estimator on the sample."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError, ModelError, OptionError
from maas_magics.api.requests import ImportRequest
from maas_magics.api.results import ModelInfo
from maas_magics.core.context import Context
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.sources import open_source
from maas_magics.core.data.target import part
from maas_magics.core.importers.estimators.convert import graphs_of, kind_of
from maas_magics.core.importers.onnx.bring import SAMPLE_ROWS, Origin, import_graph
from maas_magics.core.store.storage import staging
from maas_magics.core.tasks.base import Task

CLOSE = 1e-4
"""Difference of probabilities, and of quantities by their size, that a graph may have from its estimator."""

ROWS = 40
"""Rows in which one value is taken out of each column, to see what becomes of missing ones."""


class Apart(ModelError):
    """A graph answers otherwise than the estimator that it was made of."""


def import_estimator(request: ImportRequest, context: Context) -> ModelInfo:
    """Publish a fitted estimator as a new version.

    Parameters
    ----------
    request : ImportRequest
        With the estimator in place of a path, and sample rows.
    context : Context
        Where it becomes a model.

    Raises
    ------
    ModelError
        If it is no estimator, is not fitted, or no graph answers as it does.
    """
    estimator: Any = request.path
    title = type(estimator).__name__
    if not kind_of(estimator):
        raise ModelError(
            f"{title} is not an estimator of scikit-learn, XGBoost or LightGBM with predict.",
            "%maas import FILE.onnx --as NAME, or %train NAME --model NET for a module of torch.",
        )
    if not _is_fitted(estimator):
        raise ModelError(f"{title} is not fitted.", "Fit it first: pipe.fit(X, y)")
    if request.data is None:
        raise OptionError(
            "An estimator is verified on sample rows, and none were given.", "%maas import pipe --as NAME --sample df"
        )
    request, table, arrays = _sample(request, estimator)
    named = hasattr(estimator, "feature_names_in_")
    if arrays and table.num_columns == 1:
        table = _parted(table)
    frame = _framed(estimator, table)
    graphs = graphs_of(estimator, table, named)
    failed: ModelError | None = None
    for graph in graphs:
        with staging(context.store.work) as work:
            file = work / "estimator.onnx"
            file.write_bytes(graph.SerializeToString())

            def compare(rows: pa.Table, task: Task, decoded: Array, ask: Callable[[pa.Table], Array]) -> None:
                _compare(estimator, frame, task, decoded)
                if not arrays:
                    _warn_of_missing(estimator, table, task, ask, context)

            try:
                return import_graph(file, request, context, Origin(title, title, compare, _labels(estimator)))
            except ModelError as error:  # the next one may answer as the estimator does
                failed = error if failed is None or isinstance(error, Apart) else failed
    assert failed is not None
    if isinstance(failed, Apart) and not _is_judged(estimator):
        raise ModelError(
            f"{title} is neither a classifier nor a regressor: its answers are none of a task.",
            "Make a file of its graph, skl2onnx.to_onnx(pipe, X), then %maas import FILE.onnx --as NAME",
        )
    raise failed


def _labels(estimator: Any) -> Array | None:
    """Labels as a classifier learnt them."""
    found = getattr(estimator, "classes_", None)
    return found if isinstance(found, np.ndarray) and found.ndim == 1 else None


def _sample(request: ImportRequest, estimator: Any) -> tuple[ImportRequest, pa.Table, bool]:
    """The request with the columns that an estimator was fitted to, in their order, and these columns."""
    pair = isinstance(request.data, tuple) and len(request.data) == 2
    if pair or request.target is not None:
        source, table, values, names = part(request.data, request.target)
        target: Any = names[0] if values.ndim == 1 and not pair else None
    else:
        source, values, target = open_source(request.data), None, None
        table = source.table()
    if not table.num_rows:
        raise DataError("The sample has no rows.", "Give at least one row.")
    known = getattr(estimator, "feature_names_in_", None)
    if known is not None and not source.arrays:
        alike = {_plain(name): name for name in table.column_names}
        wanted = [str(name) if name in table.column_names else alike.get(_plain(str(name)), "") for name in known]
        absent = [str(name) for name, there in zip(known, wanted, strict=True) if not there]
        if absent:
            raise DataError(
                f"The sample lacks {', '.join(map(repr, absent[:5]))}, to which the estimator was fitted.",
                f"It takes: {', '.join(map(str, known[:12]))}.",
            )
        table = table.select(wanted)
    elif not source.arrays and (count := getattr(estimator, "n_features_in_", None)) not in (None, table.num_columns):
        more = " If one has the answers, name it: --target COLUMN" if count == table.num_columns - 1 else ""
        raise DataError(
            f"The estimator was fitted to {count} columns; the sample has {table.num_columns}.",
            f"Give those that it was fitted to.{more}",
        )
    rows: Any = request.data[0] if pair and source.arrays else table
    data = rows if values is None else (rows, values)
    target = request.target if isinstance(request.target, (str, list, tuple)) else target
    changed = msgspec.structs.replace(request, data=data, target=None, column=None)
    return _with_target(changed, target, values), table.slice(0, SAMPLE_ROWS), source.arrays


def _with_target(request: ImportRequest, target: Any, values: Array | None) -> ImportRequest:
    """Rows and answers as a table again, so that the answers keep their names."""
    names = (target,) if isinstance(target, str) else target
    if values is None or not names or not isinstance(request.data[0], pa.Table) or values.ndim > 2:
        return request
    from maas_magics.core.data.sources.arrays import column

    answers = values.reshape(len(values), -1)
    if answers.shape[1] != len(names) or set(names) & set(request.data[0].column_names):
        return request
    table = request.data[0]
    for place, name in enumerate(names):
        table = table.append_column(name, column(answers[:, place], name))
    return msgspec.structs.replace(request, data=table, target=target)


def _parted(table: pa.Table) -> pa.Table:
    """Columns of a matrix."""
    from maas_magics.core.data.arrow import tensors

    matrix = tensors(table.column(0))
    return pa.table({f"x{place}": matrix[:, place] for place in range(matrix.shape[1])})


def _plain(name: str) -> str:
    """A name as LightGBM and skl2onnx write it."""
    return re.sub(r"\W", "_", name)


def _framed(estimator: Any, table: pa.Table) -> Any:
    """Rows as the estimator got them: a data frame where it knows columns by name, else an array."""
    frame, known = table.to_pandas(), getattr(estimator, "feature_names_in_", None)
    return frame.to_numpy() if known is None else frame.set_axis(known, axis=1)


def _is_fitted(estimator: Any) -> bool:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def _is_judged(estimator: Any) -> bool:
    """Whether its answers are labels or quantities, which clusters and outliers are not."""
    from sklearn.base import is_classifier, is_regressor

    return bool(is_classifier(estimator) or is_regressor(estimator))


def _compare(estimator: Any, frame: Any, task: Task, decoded: Array) -> None:
    """Raise `Apart` where answers are not those of an estimator."""
    title = type(estimator).__name__
    told = _predicted(estimator, frame)
    rows = len(decoded)
    apart = _apart(estimator, frame, told[:rows], task, decoded)
    if apart.any():
        raise Apart(
            f"The graph of {title} answers {int(apart.sum()):,} of {rows:,} rows otherwise than {title} itself. "
            "Nothing was published.",
            "Numbers on a threshold fall elsewhere in 32 bits: fit it to X.astype('float32'). Texts and missing values "
            "are best encoded by OneHotEncoder and SimpleImputer.",
        )


def _apart(estimator: Any, frame: Any, told: Array, task: Task, decoded: Array) -> Array:
    """Which rows are answered otherwise, bool (n,)."""
    if task.classes:
        given = task.label_array[decoded.argmax(1)]
        apart = np.array([mine != theirs for mine, theirs in zip(given.tolist(), told.tolist(), strict=True)])
        known = getattr(estimator, "predict_proba", None)
        if known is not None and set(np.unique(decoded)) - {0.0, 1.0}:
            wanted = np.asarray(known(frame))[: len(decoded)]
            apart |= ~(np.abs(wanted - decoded) <= CLOSE).all(1)
        return apart
    wanted = told.reshape(len(decoded), -1).astype(np.float64)
    found = decoded.reshape(len(decoded), -1).astype(np.float64)
    size = max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)))
    same: Array = (np.abs(wanted - found) <= CLOSE * size) | (np.isnan(wanted) & np.isnan(found))
    return np.asarray(~same.all(1))


def _predicted(estimator: Any, frame: Any) -> Array:
    try:
        return np.asarray(estimator.predict(frame))
    except Exception as error:  # whatever an estimator raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"The estimator cannot answer the sample: {lines[0][:200]}", "Give rows like those it was fitted to."
        ) from None


def _warn_of_missing(
    estimator: Any, table: pa.Table, task: Task, ask: Callable[[pa.Table], Array], context: Context
) -> None:
    """Notify of columns whose missing values a graph takes otherwise than its estimator."""
    rows = table.slice(0, ROWS)
    odd: list[str] = []
    for place, name in enumerate(table.column_names):
        if table.column(place).null_count:
            continue  # these were compared
        holes = rows.set_column(place, rows.schema.field(place), pa.nulls(len(rows), rows.schema.field(place).type))
        try:
            frame = _framed(estimator, holes)
            told = np.asarray(estimator.predict(frame))
        except Exception:  # it takes none there, and neither is anyone to give any
            continue
        try:
            same = not _apart(estimator, frame, told, task, ask(holes)).any()
        except Exception:  # the graph takes none there, and says so
            same = True
        if not same:
            odd.append(name)
    if odd:
        context.notify(
            f"A missing {_listed(odd)} is answered otherwise than {type(estimator).__name__} does.", "warning"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
