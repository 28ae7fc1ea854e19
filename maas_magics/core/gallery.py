"""Rows of pictures or sounds side by side, with what a model answers, or as training varies them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from maas_magics.api.errors import DataError
from maas_magics.api.gallery import MOST, Example, Gallery
from maas_magics.api.requests import PredictRequest
from maas_magics.api.results import ModelInfo
from maas_magics.api.tables import format_number
from maas_magics.core.data import media
from maas_magics.core.data.arrow import Array, tensors
from maas_magics.core.data.sources import open_source
from maas_magics.core.features import augment
from maas_magics.core.features.declared import declared
from maas_magics.core.features.fitting import FitConfig, Layout
from maas_magics.core.features.modalities import modalities, modality_of
from maas_magics.core.features.pictures import opened
from maas_magics.core.features.profile import TableProfile, image_like
from maas_magics.core.features.thumbnails import LEAST, of_array, overlaid, tried
from maas_magics.core.pictures import Pictures, examples

VARIED = 5
"""Ways in which each row of a gallery of augmented rows is varied."""


def answered(data: Any, csv: str | None, answers: Any, model: str, only_files: bool = False) -> Gallery | None:
    """The first rows with an answer below each; None where no column holds pictures or sounds.

    Parameters
    ----------
    data : Any
        Rows, as for `predict`.
    csv : str or None
        How CSV files are written.
    answers : Any
        What was answered: a table with a column ``prediction``, or an array.
    model : str
        Who answered.
    only_files : bool
        Whether arrays are no pictures.
    """
    if isinstance(data, Iterator) or (isinstance(data, str) and "://" in data):
        return None  # what was read once is not read again
    table = next(iter(open_source(_first(data), csv).chunks(MOST)), None)
    column = None if table is None else _column(table)
    if table is None or column is None or (only_files and column[1] == "tensor"):
        return None
    (name, kind), told = column, _told(answers)
    found = []
    for row, value in enumerate(_values(table, name)[: len(told)]):
        shown = tried(modalities.get(kind).show, value)
        if shown is not None:
            title, note, mask = told[row]
            if mask is not None:
                shown = overlaid(shown[0], mask), b""
            found.append(Example(row=row, title=title, note=note, image=shown[0], audio=shown[1]))
    return Gallery(caption=f"{model}: {name}", examples=tuple(found)) if found else None


def drawn(request: PredictRequest, answers: Any, info: ModelInfo) -> Gallery | None:
    """The first pictures that a model has drawn, with their captions; None where none are among the answers.

    Parameters
    ----------
    request : PredictRequest
        Model and captions.
    answers : Any
        What was answered: `Pictures`, a table with a column ``prediction``, or an array.
    info : ModelInfo
        Of the model.
    """
    if isinstance(answers, Pictures):
        return answers.gallery
    table = next(iter(open_source(_first(answers)).chunks(MOST)), None)
    if table is None or "prediction" not in table.column_names or isinstance(request.data, Iterator):
        return None
    asked = next(iter(open_source(_first(request.data), request.csv).chunks(MOST)))
    name = request.column or info.signature.inputs[0].name
    name = name if name in asked.column_names else asked.column_names[0]
    captions = [str(one) for one in asked.column(name).to_pylist()]
    files = enumerate(table.column("prediction").to_pylist())
    pixels = [np.asarray(opened(media.file_bytes(value, "prediction", row))) for row, value in files]
    return Gallery(caption=info.ref, examples=tuple(examples(np.stack(pixels), captions)))


def _first(rows: Any) -> Any:
    """The first of some rows, where they can be cut."""
    if hasattr(rows, "head"):
        return rows.head(MOST)
    return rows[:MOST] if isinstance(rows, (list, np.ndarray)) else rows


def _told(answers: Any) -> list[tuple[str, str, Array | None]]:
    """Answer and how sure it is, in words, of the first rows; and the mask, where that is the answer."""
    table = next(iter(open_source(_first(answers)).chunks(MOST)))
    name = "prediction" if "prediction" in table.column_names else table.column_names[0]
    told: list[tuple[str, str, Array | None]] = []
    for row in range(min(MOST, table.num_rows)):
        value = table.column(name)[row].as_py()
        mask = np.array(value) if isinstance(value, list) else None
        if mask is not None and mask.ndim == 2:
            told.append((_areas(mask), "", mask))
            continue
        title = format_number(value) if isinstance(value, float) else str(value)
        column = f"probability_{value}"
        sure = table.column(column)[row].as_py() if column in table.column_names else None
        told.append((title, "" if sure is None else f"{sure:.0%} sure", None))
    return told


def _areas(mask: Array) -> str:
    """How large a share of a mask each class has, the most frequent one left out."""
    classes, counts = np.unique(mask, return_counts=True)
    shares = sorted(zip(counts / mask.size, classes.tolist(), strict=True), reverse=True)
    return ", ".join(f"{label}: {share:.0%}" for share, label in shares[1:4]) or f"all {shares[0][1]}"


def augmented(data: Any, ways: Sequence[str], rows: int = 4, seed: int = 0, csv: str | None = None) -> Gallery:
    """Rows as they are, and beside each as a training may vary it.

    Parameters
    ----------
    data : Any
        Rows, as for `train`.
    ways : sequence of str
        Ways in which they are varied: ``"flip,crop=0.5"``.
    rows : int
        How many.
    seed : int
        Of the random numbers.
    csv : str or None
        How CSV files are written.

    Raises
    ------
    DataError
        If no column holds pictures.
    """
    how = augment.parsed(ways)
    data = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    table = next(iter(open_source(data, csv).chunks(max(1, rows))), None)
    column = None if table is None else _column(table)
    if table is None or column is None or column[1] == "audio":
        raise DataError("No column of these rows holds pictures.", "maas.augmented(df, 'flip,crop,color')")
    name, _ = column
    table = declared(table.select([name]), {}, lambda text: None)
    layout: Layout = "image" if image_like(table.schema, LEAST) else "ports"
    profile = TableProfile(table.schema, FitConfig(layout))
    profile.add(table)
    processor = profile.finish(table, lambda text: None, {})
    augment.check_taken(how, processor)
    raw = processor.encode(table)
    plain = torch.from_numpy(np.array(processor.features[0].enter(raw[0])))
    vary = augment.Augmentation(processor, how)
    places = list(range(len(plain)))
    turns = [plain, *(vary.entering((plain,), seed + turn, places)[0] for turn in range(VARIED))]
    lowest, highest = float(plain.amin()), float(plain.amax())
    examples = []
    for row in places:
        for turn, values in enumerate(turns):
            # Spread over the range that all rows have, so that a darker picture looks darker.
            shown = of_array(values[row].to(torch.float32).numpy(), lowest, highest)
            if shown is not None:
                examples.append(Example(row=row, title="" if turn else f"row {row}", image=shown[0]))
    caption = f"{name}, and as {', '.join(how)} vary it"
    return Gallery(caption=caption, examples=tuple(examples), columns=len(turns))


def _column(table: pa.Table) -> tuple[str, str] | None:
    """Name and modality of the first column that can be shown."""
    for field in declared(table, {}, lambda text: None).schema:
        kind = modality_of(field)
        if kind and modalities.get(kind).show is not None:
            return field.name, kind
        if image_like(pa.schema([field]), LEAST):
            return field.name, "tensor"
    return None


def _values(table: pa.Table, name: str) -> list[Any]:
    """What each row of a column holds: the bytes of its file, or an array."""
    values = table.column(name)
    if isinstance(values.type, pa.FixedShapeTensorType):
        return list(tensors(values))
    return [media.file_bytes(value, name, row) for row, value in enumerate(values.to_pylist())]
