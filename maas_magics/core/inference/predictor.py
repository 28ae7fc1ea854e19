"""From rows to answers, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.requests import PredictRequest
from maas_magics.api.signature import NUMPY
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import DECIMAL
from maas_magics.core.data.media import opening
from maas_magics.core.data.origin import came_from
from maas_magics.core.data.sources import Source, typed
from maas_magics.core.features.mismatch import check_ids
from maas_magics.core.features.tokens import raw_texts
from maas_magics.core.inference.answering import answering_of
from maas_magics.core.inference.by_length import in_groups
from maas_magics.core.inference.gather import gather, padded
from maas_magics.core.inference.hardened import Harden, HardenedSession, check_hardened
from maas_magics.core.inference.inputs import fit_inputs
from maas_magics.core.inference.sessions import open_one_pass
from maas_magics.core.inference.spans import AnsweringSpans
from maas_magics.core.runtimes import Session, unanswered
from maas_magics.core.runtimes.engine import Engine
from maas_magics.core.store.manifest import PREPROCESS, check_files, read_manifest, read_processor

if TYPE_CHECKING:
    from maas_magics.core.features.base import Feature
    from maas_magics.core.model import Model

WEIGHTS = "weights.safetensors"

FILES_OF_ENGINE = ("model.onnx", "model.ort")
"""Names of files that ONNX Runtime opens."""

CHUNK = 4_096
"""Rows read and predicted at a time."""

CHUNK_BYTES = 16 * 2**20
"""Bytes of tensors in a batch, where a row is large."""

TOKENS = 8_192
"""Tokens of rows that differ in length and are answered at once, those of padding included."""

GROUP = 1_024
"""Tokens of rows of about one length that ONNX Runtime is asked at once: more would leave a processor's caches."""

PADDING = 32
"""Tokens of padding in such a group; more of them cost more than another call does."""

LOOKED_AT = 2_000
"""Rows that are looked at to say how many are cut."""

FILES = ("picture", "image", "sound", "audio")
"""Names of a column of files that stands for the only input, where that has another name."""

FEW = 16
"""Least rows of a batch, however large they are."""


class InSeveralPasses(OptionError):
    """A model that answers in several passes is asked for one."""


class Predictor:
    """Answers for one version, on ONNX Runtime where it has that export, else on torch.

    Parameters
    ----------
    ref : str
        ``name:version``.
    folder : Path
        The version's folder.
    model : callable
        Makes the torch model when there is no ONNX export.
    shared : bool
        See `Engine`.
    variant : str
        Name of the export that answers; the plain one where it is empty.
    harden : Harden, optional
        What is kept of answers; all where it is not given.
    """

    def __init__(
        self,
        ref: str,
        folder: Path,
        model: Callable[[], Model],
        shared: bool = False,
        variant: str = "",
        harden: Harden | None = None,
    ) -> None:
        self.ref = ref
        manifest = read_manifest(folder)
        if manifest.info.iterative:
            raise InSeveralPasses(f"{ref} answers in several passes.", f"maas.generate({ref!r}, …) runs it.")
        export = folder / "exports" / (variant or "onnx")
        check_files(folder, PREPROCESS, f"exports/{export.name}")
        self.answers, self.weights = manifest.answers, manifest.plan.get("weights", "")
        self.metrics = manifest.metrics
        """Names of the metrics it was trained with, where they are not the usual ones."""
        self.processor = read_processor(folder)
        file = next((file for name in FILES_OF_ENGINE if (file := export / name).is_file()), export / "model.onnx")
        if variant and not file.is_file():
            raise OptionError(f"{ref} is a file that no engine here answers with.", f"{ref.partition('@')[0]} answers.")
        self.engine: Session | None = None
        if manifest.runtime:
            self.engine = open_one_pass(folder, shared)
        elif file.is_file():
            self.engine = Engine(file, shared)
        self._split = isinstance(self.engine, Engine) and self.engine.on_cpu
        self._model = None if self.engine else model()
        self._harden = harden
        if harden is not None:
            check_hardened(self.answers, ref)
            self.engine = self.engine and HardenedSession(self.engine, self.answers, harden)
        weights = file if file.is_file() else folder / WEIGHTS
        self.size = weights.stat().st_size if weights.is_file() else 0
        """Bytes of its weights."""
        specs = self.processor.specs
        only = specs[0] if len(specs) == 1 else None
        self._plain = (
            only
            if only is not None and only.datatype != "BYTES" and len(only.shape) > 1 and only.shape != (-1, 1)
            else None
        )
        features = self.processor.features
        self._gaps = {feature.name for feature in features if feature.gaps}
        first = next((place for place, feature in enumerate(features) if feature.gaps), -1)
        self._first_number = first if all(feature.may_be_blank for feature in features) else None
        """Place of the first input of numbers that may be missing; -1 if there is none, None if no row is blank."""
        self._hosted = self.processor.hosted
        texts = [feature.spec.datatype == "BYTES" and not feature.binary for feature in features]
        self._texts = [place for place, text in enumerate(texts) if text]
        self._ids = [place for place, feature in enumerate(features) if feature.table_rows]
        self._timed = any(feature.timed for feature in features)
        self._answered = next((place for place, feature in enumerate(features) if feature.answered), None)
        """Place of the input each of whose places has an answer; None where rows have one."""
        self._answering = answering_of(self.answers)
        self._spans = AnsweringSpans(self.answers) if any(feature.spanned for feature in features) else None

    @property
    def model(self) -> Model | None:
        """The torch model that answers; None where an engine does."""
        return self._model

    def decoded(self, raw: Sequence[Array]) -> Array:
        """Probabilities (n, classes), or predictions (n,) or (n, k), of raw arrays."""
        engine, model = self.engine, self._model
        if engine is not None:
            return self._run(lambda arrays: {"": self.answers.decoded_from(engine.run(arrays))}, raw)[""]
        assert model is not None

        def asked(arrays: Sequence[Array]) -> dict[str, Array]:
            try:
                found = model.run_hosted(arrays)
                return {"": found if self._harden is None else self._harden.applied(found, self.answers)}
            except Exception as error:  # whatever a module of the user's raises
                raise unanswered(error) from error

        return self._run(asked, raw)[""]

    def infer(self, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], Array | None]:
        """Outputs of the signature for its inputs, some rows at a time, and which rows rest on nothing, if any do.

        What is held beside inputs and outputs is what one chunk takes.
        """
        rows = _length(next(iter(inputs.values()), None))
        if rows <= FEW or rows <= (size := _chunk(inputs)) or {_length(values) for values in inputs.values()} != {rows}:
            return self._infer(inputs)
        first, of_first = self._infer(_rows(inputs, 0, size))
        if any(values.shape[:1] != (size,) for values in first.values()):  # an output that is of all rows at once
            return self._infer(inputs)
        blank = np.zeros(rows, dtype=bool)
        blank[:size] = of_first if of_first is not None else False

        def rest() -> Iterator[dict[str, Array]]:
            for start in range(size, rows, size):
                found, of_these = self._infer(_rows(inputs, start, size))
                if of_these is not None:
                    blank[start : start + size] = of_these
                yield found

        return gather(chain((first,), rest()), rows), blank if blank.any() else None

    def _infer(self, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], Array | None]:
        raw = fit_inputs(self.processor.specs, inputs, self._gaps)
        for place in self._texts:
            if raw[place].size and isinstance(raw[place].item(0), bytes):
                raise DataError(f"A text of {self.processor.names[place][:80]!r} is not UTF-8.", "Send UTF-8.")
        blank = self._blank(raw)
        if self._spans is not None:
            return self._spans.signed(self.decoded(raw), raw_texts(raw[0])), blank
        if self.engine is not None:
            return self._run(self.engine.run, raw), blank
        wanted = True if self.answers.labels or self.answers.parts else None
        asked = PredictRequest(model=self.ref, data=None, probabilities=wanted)
        return self._answering.signed(self.decoded(raw), asked), blank

    def _run(self, run: Callable[[Sequence[Array]], dict[str, Array]], raw: Sequence[Array]) -> dict[str, Array]:
        """What an engine answers to raw rows: to many that differ in length, some of about one length at a time."""
        for place in self._ids:
            check_ids(self.processor.names[place], raw[place], self.processor.features[place].table_rows)
        sizes = self.processor.sizes(raw) if self._hosted else None
        if sizes is None or len(sizes) * sizes.max() <= TOKENS:
            found = self._entered(run, raw)
        else:
            found = in_groups(lambda rows: self._entered(run, self._narrowed(rows)), raw, sizes, TOKENS)
        if self._answered is None:
            return found
        places = raw[self._answered].shape[1]  # a graph has some for tokens beyond, and a group fewer
        return {name: _of_places(values, places) for name, values in found.items()}

    def _entered(self, run: Callable[[Sequence[Array]], dict[str, Array]], raw: Sequence[Array]) -> dict[str, Array]:
        """Answers to raw rows; on a processor, of those groups whose tokens hold next to no padding."""
        arrays = self._entering(raw)
        if not self._hosted or not self._split or len(arrays[0]) == 1:
            return run(arrays)
        sizes = self.processor.entered_sizes(arrays)
        known = [each for each in sizes if each is not None]
        if not known:
            return run(arrays)
        ragged = [place for place, each in enumerate(sizes) if each is not None]

        def some(rows: list[Array]) -> dict[str, Array]:
            for place in ragged:
                longest = self.processor.features[place].entered_sizes(rows[place])
                rows[place] = rows[place] if longest is None else rows[place][:, : longest.max()]
            return run(rows)

        return in_groups(some, arrays, np.max(known, axis=0), GROUP, PADDING)

    def _narrowed(self, raw: list[Array]) -> list[Array]:
        """Rows without the padding behind the longest, where each place has an answer."""
        if self._answered is not None:
            rows = raw[self._answered]
            sizes = self.processor.features[self._answered].sizes(rows)
            raw[self._answered] = rows if sizes is None else rows[:, : sizes.max()]
        return raw

    def _entering(self, raw: Sequence[Array]) -> Sequence[Array]:
        """Raw arrays as the engine's graph takes them."""
        return self.processor.hosted_raw(raw) if self._hosted else raw

    def _blank(self, raw: Sequence[Array]) -> Array | None:
        """Rows without any information, if there are such; soon done where a number is there in every row."""
        if self._first_number is None:
            return None
        if self._first_number >= 0:
            values = raw[self._first_number]
            if isfinite(values.item(0)) if len(values) == 1 else np.isfinite(values[:, 0]).all():
                return None
        found = self.processor.blank(raw)
        return found if found.any() else None

    def array(self, values: Array) -> dict[str, Array] | None:
        """The short path for one array of the model's own shape and type, no longer than a chunk; else None."""
        spec = self._plain
        if spec is None or values.shape[1:] != spec.shape[1:] or self.engine is None or not 0 < len(values) <= CHUNK:
            return None
        fits = spec.datatype in ("FP32", "FP64") and values.dtype == NUMPY[spec.datatype]
        return self.engine.run([values]) if fits and self.answers.kind != DECIMAL else None

    def answer(self, raw: Sequence[Array], request: PredictRequest) -> dict[str, Array]:
        """Columns of answers to raw rows; labels of text as their places in the list of labels."""
        decoded = self.decoded(raw)
        if self._spans is not None:
            return self._spans.columns(decoded, raw_texts(raw[0]), request)
        return self._answering.columns(decoded, request)

    def named(self, columns: dict[str, Array]) -> dict[str, Any]:
        """Columns of answers, the places of labels as Arrow dictionaries of the labels."""
        return (self._spans or self._answering).labelled(columns)

    def chunks(
        self,
        source: Source,
        request: PredictRequest,
        blank: Callable[[int], None] | None = None,
        caution: Callable[[str], None] | None = None,
    ) -> Iterator[dict[str, Array]]:
        """Answers of a source, some rows at a time.

        Parameters
        ----------
        source : Source
        request : PredictRequest
        blank : callable, optional
            Gets how many answers of a chunk rest on nothing.
        caution : callable, optional
            Gets a sentence for each thing that was assumed of a chunk.

        Raises
        ------
        DataError
            If the source has no rows, or its columns do not fit.
        """
        size = CHUNK if request.batch_size is None else request.batch_size
        if size < 1 or request.top < 0:
            raise OptionError(
                "A batch size is at least 1, and the number of likeliest labels at least 0.", "--batch-size 1024"
            )
        any_rows, cuts, infinite = False, CutRows(), InfiniteRows()
        for table in typed(source, self.processor.texts).chunks(size):
            if table.num_rows:
                any_rows = True
                raw = self.encode(table, source)
                if caution is not None and self._timed:
                    for text in self.processor.cautions(table):
                        caution(text)
                if caution is not None:
                    cuts.add(self.processor.features, raw)
                    infinite.add(self.processor.features, raw)
                if blank is not None:
                    blank(int(self.processor.blank(raw).sum()))
                yield self.answer(raw, request)
        if not any_rows:
            raise DataError("The data has no rows.", "Give at least one row to predict.")
        if caution is not None:
            for text in (*cuts.told, *infinite.told):
                caution(text)

    def encode(self, table: Any, source: Source) -> list[Array]:
        """Raw arrays of rows; an unnamed array goes by the model's own name for it."""
        came_from(source)
        if source.arrays and len(self.processor.features) == 1 and table.num_columns == 1:
            table = table.rename_columns(self.processor.names)
        elif self.answers.of_pairs and self.processor.names[0] not in table.column_names:
            table = _renamed(table, self.answers.names, self.processor.names[0])
        elif len(self.processor.features) == 1 and self.processor.features[0].binary:
            name = self.processor.names[0]
            table = table if name in table.column_names else _renamed(table, FILES, name)
        with opening(not getattr(source, "sent", False)):
            return self.processor.encode(table)


class CutRows:
    """Which of the first rows are longer than a network reads."""

    def __init__(self) -> None:
        self._rows = 0
        self._cut: dict[str, tuple[int, int]] = {}
        self._more = False

    def add(self, features: Sequence[Feature], raw: Sequence[Array]) -> None:
        """Take in some rows, of which those past the first `LOOKED_AT` are not looked at."""
        left = LOOKED_AT - self._rows
        self._more = self._more or len(raw[0]) > left
        if left <= 0:
            return
        for feature, values in zip(features, raw, strict=True):
            if feature.most_tokens and (cut := feature.cut(values[:left])):
                self._cut[feature.name] = self._cut.get(feature.name, (0, 0))[0] + cut, feature.most_tokens
        self._rows += min(left, len(raw[0]))

    @property
    def told(self) -> list[str]:
        """A sentence for each column that has such rows."""
        of = f"the first {self._rows:,}" if self._more else f"{self._rows:,}"
        return [
            f"{cut:,} of {of} rows of {name!r} are longer than {most} tokens, and are cut there."
            for name, (cut, most) in self._cut.items()
        ]


class InfiniteRows:
    """How many rows have infinite numbers, which no network takes."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}

    def add(self, features: Sequence[Feature], raw: Sequence[Array]) -> None:
        """Take in some rows."""
        for feature, values in zip(features, raw, strict=True):
            if feature.gaps and not feature.infinite and values.dtype.kind == "f" and (there := np.isinf(values)).any():
                rows = int(there.reshape(len(values), -1).any(1).sum())
                self._rows[feature.name] = self._rows.get(feature.name, 0) + rows

    @property
    def told(self) -> list[str]:
        """A sentence for each column that has such rows."""
        return [
            f"{rows:,} {'row has' if rows == 1 else 'rows have'} infinite numbers in {name!r}, "
            "and are answered as if they were missing."
            for name, rows in self._rows.items()
        ]


def _renamed(table: Any, names: Sequence[str], name: str) -> Any:
    """A table whose column of one of some names has another name."""
    other = next((column for column in table.column_names if column in names), None)
    return table if other is None else table.select([other]).rename_columns([name])


def _of_places(values: Array, places: int) -> Array:
    """Answers of so many places a row."""
    cut = values[:, :places]
    return padded(cut, (places, *cut.shape[2:]))


def _length(values: Array | None) -> int:
    return len(values) if values is not None and values.ndim else 0


def _chunk(inputs: Mapping[str, Array]) -> int:
    """Rows of a batch."""
    row = sum(values.nbytes // max(1, _length(values)) for values in inputs.values())
    return max(1, min(CHUNK, CHUNK_BYTES // max(1, row)))


def _rows(inputs: Mapping[str, Array], start: int, size: int) -> dict[str, Array]:
    return {name: values[start : start + size] for name, values in inputs.items()}
