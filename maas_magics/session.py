"""The composition root: the requests of one notebook to the connected backend, and what its names mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from maas_magics.api.errors import OptionError
from maas_magics.api.gallery import Gallery
from maas_magics.api.highlight import Highlighted
from maas_magics.api.requests import GenerateRequest, PredictRequest
from maas_magics.api.results import ModelInfo, Prediction
from maas_magics.api.search import SearchRequest, SearchResult
from maas_magics.api.stream import ChunkStream
from maas_magics.runs import Runs

if TYPE_CHECKING:
    from torch import nn

    from maas_magics.core.pictures import Pictures

R = TypeVar("R")

SLOW = 2.0
"""Seconds after which a prediction shows its progress."""

FILES = ("a picture:", "a sound:")
"""How the meaning of an input begins that takes files."""

MANY_ROWS = 20_000
"""Rows from which a prediction may become slow."""


class Session(Runs):
    """The state of one notebook or script: its backend, the jobs and sweeps that it began, and what it asks.

    Parameters
    ----------
    store : str, optional
        Folder or URL of the local store; the default one when None.
    notify : callable, optional
        Gets a sentence about what the session does on its own; written to stderr by default.
    """

    def __init__(self, store: str | None = None, notify: Callable[[str], None] | None = None) -> None:
        super().__init__(store, notify)
        self._vectors: Any = None
        self.conversations: dict[str, list[dict[str, str]]] = {}
        """Messages so far, by the model that they are with."""

    def _forget(self) -> None:
        super()._forget()
        self._vectors = None
        self.conversations.clear()

    def predict(self, request: PredictRequest, show: Callable[[Highlighted], None] | None = None) -> Any:
        """Answers in the library the rows came from.

        Parameters
        ----------
        request : PredictRequest
            Model and rows.
        show : callable, optional
            Gets the texts with their entities marked, where the model finds such.
        """
        if self._going:
            self.wait_for(request.model)
        data, prompts = request.data, self._captions(request)
        if prompts:
            return self._drawn(msgspec.structs.replace(request, data=prompts))
        if isinstance(data, str) and self._is_text(data, request.model):
            data = self.read_text(data, request.model)
            request = msgspec.structs.replace(request, data=data)
        elif isinstance(data, (list, tuple)) and data and all(isinstance(one, str) for one in data):
            data = self._prompts(data, request.model)
            request = msgspec.structs.replace(request, data=data)
        if type(data).__module__ == "numpy" and data.ndim and data.dtype.kind in "biuf" and not request.top:
            answered = self._asked(request, len(data))
            columns = answered.columns
            wanted = "probabilities" if request.probabilities else "prediction"
            if wanted not in columns:
                return _of_heads(columns, self.backend.models.get(answered.model), request)
            found = columns[wanted]
            if type(found) is type(data):
                return found
            from maas_magics.core.data.sources import as_numpy

            return as_numpy(found)
        from maas_magics.core.data.sources import notes_of, open_source

        source = open_source(data, request.csv)  # once: a lazy table is worked out, a stream read, a single time
        for note in notes_of(source):
            self._notify(note)
        prediction = self._asked(msgspec.structs.replace(request, data=source, csv=None), source.rows)
        for warning in prediction.warnings:
            self._notify(warning)
        columns = prediction.columns
        if show is not None:
            self._show(source, prediction, show)
        if source.arrays:
            if "top_1" in columns:
                return source.restore(columns)
            wanted = "probabilities" if request.probabilities else "prediction"
            if wanted in columns:
                return source.restore({"": columns[wanted]})
            return source.restore(_of_heads(columns, self.backend.models.get(prediction.model), request))
        info = self.backend.models.get(prediction.model)
        if info.draws:
            from maas_magics.core.pictures import files_of

            return source.restore({name: files_of(values) for name, values in columns.items()})
        if not request.probabilities:  # of each pixel they are many
            columns = {name: values for name, values in columns.items() if getattr(values, "ndim", 1) < 4}
        return source.restore(_flat(columns, info))

    def _captions(self, request: PredictRequest) -> list[str]:
        """Captions that are given as such, to a model that draws pictures: one, or a list of them."""
        data = request.data
        texts = [data] if isinstance(data, str) else list(data) if isinstance(data, (list, tuple)) else []
        if not texts or not all(isinstance(one, str) for one in texts):
            return []
        if not self.backend.models.get(request.model).draws:
            return []
        return [] if isinstance(data, str) and not self._is_text(data, request.model) else texts

    def _drawn(self, request: PredictRequest) -> Pictures:
        """Pictures of captions."""
        from maas_magics.core.data.sources import open_source
        from maas_magics.core.pictures import Pictures

        captions = request.data
        source = open_source(self._prompts(captions, request.model))
        prediction = self._asked(msgspec.structs.replace(request, data=source, csv=None), source.rows)
        return Pictures(prediction.columns["prediction"], captions, prediction.model)

    def _show(self, source: Any, prediction: Prediction, show: Callable[[Highlighted], None]) -> None:
        from maas_magics.core.highlighting import highlighted

        found = highlighted(source, prediction.columns, self.backend.models.get(prediction.model))
        if found is not None:
            show(found)

    def highlight(self, request: PredictRequest) -> Highlighted:
        """Texts with the entities that a model finds in them.

        Parameters
        ----------
        request : PredictRequest
            Model and rows.
        """
        found: list[Highlighted] = []
        self.predict(request, found.append)
        if not found:
            raise OptionError(
                f"{request.model} finds no entities in texts.", "%train NAME --data df --target spans, or tags"
            )
        return found[0]

    def search(self, request: SearchRequest) -> SearchResult:
        """Rows of a table that are most like a text; vectors of the newest tables are kept.

        Parameters
        ----------
        request : SearchRequest
            Model, query and table.
        """
        from maas_magics.core.data.sources import open_source
        from maas_magics.core.searching import Vectors, search

        self.wait_for(request.model)
        info = self.backend.models.get(request.model)

        def ask(texts: Any) -> Any:
            source = open_source(texts)
            columns = self._asked(PredictRequest(model=info.ref, data=source), source.rows).columns
            return next(iter(columns.values()))

        self._vectors = self._vectors or Vectors()
        return search(request, info, ask, self._vectors)

    def generate(self, request: GenerateRequest) -> ChunkStream:
        """An answer in chunks; of a model that answers in one pass one chunk, with what `predict` gives.

        Parameters
        ----------
        request : GenerateRequest
            Model, inputs of one row and limits.
        """
        from maas_magics.core.chunks import in_one_pass

        if self._going:
            self.wait_for(request.model)
        info = self.backend.models.get(request.model)
        if info.writes_to(request.data):
            return self.backend.generate(request)
        return in_one_pass(request, self.predict, info.ref)

    def gallery(self, request: PredictRequest, answers: Any, *, only_files: bool = False) -> Gallery | None:
        """The first rows with their answers, where a column holds pictures or sounds; else None.

        Parameters
        ----------
        request : PredictRequest
            Model and rows.
        answers : Any
            What `predict` answered.
        only_files : bool
            Whether arrays are no pictures.
        """
        from maas_magics.core.gallery import answered, drawn

        info = self.backend.models.get(request.model)
        if info.draws:
            return drawn(request, answers, info) if not only_files or hasattr(answers, "columns") else None
        inputs = info.signature.inputs
        if only_files and not any(spec.meaning.startswith(FILES) for spec in inputs):
            return None
        return answered(request.data, request.csv, answers, request.model, only_files)

    def augmented(self, data: Any, ways: Sequence[str], rows: int, seed: int, csv: str | None) -> Gallery:
        """Rows as they are, and beside each as a training may vary it.

        Parameters
        ----------
        data : Any
            Rows, as for `predict`.
        ways : sequence of str
            Ways in which they are varied.
        rows : int
            How many.
        seed : int
            Of the random numbers.
        csv : str or None
            How CSV files are written.
        """
        from maas_magics.core.gallery import augmented

        return augmented(data, ways, rows, seed, csv)

    def _asked(self, request: PredictRequest, rows: int | None) -> Prediction:
        """Answers by the short path, or through a job that is watched where there may be many rows."""
        if rows is not None and rows <= MANY_ROWS:
            return self.backend.predict(request)
        job = self.backend.submit(request)
        try:
            return job.result(timeout=SLOW)
        except TimeoutError:
            from maas_magics.widgets import watch

            watch(job)
            found = self._finish(job)
            assert isinstance(found, Prediction)
            return found
        except KeyboardInterrupt:
            from maas_magics.widgets.wish import stop_if_wished

            stop_if_wished(job)
            raise

    def read_rows(self, text: str, model: str) -> Any:
        """Rows that stand in a cell: CSV, JSON, or JSON lines.

        Parameters
        ----------
        text : str
            The cell.
        model : str
            Model that the rows are for; its signature decides how texts and numbers are read.
        """
        from maas_magics.core.data.text import from_cell, read_rows

        return from_cell(read_rows(text, self.backend.models.get(model).signature.inputs))

    def _is_text(self, data: str, model: str) -> bool:
        """Whether a text is one to answer, and not a path: of several words, for a model that takes one text."""
        if (any(mark in data for mark in "*?[") and "/" in data) or os.path.exists(data):
            return False
        info = self.backend.models.get(model)
        inputs = info.signature.inputs
        words = " " in data.strip() or info.iterative
        return words and len(inputs) == 1 and inputs[0].datatype == "BYTES"

    def _prompts(self, texts: Sequence[str], model: str) -> Any:
        """Texts in a list as rows, for a model that writes; for others they are names of files."""
        info = self.backend.models.get(model)
        if not info.iterative:
            return texts
        from maas_magics.core.data.text import texts_as_rows

        return texts_as_rows(texts, info.signature.inputs)

    def read_text(self, text: str, model: str) -> Any:
        """One row that is a text, for a model that takes one.

        Parameters
        ----------
        text : str
            The cell.
        model : str
            Model that the text is for.
        """
        from maas_magics.core.data.text import one_text

        return one_text(text, self.backend.models.get(model).signature.inputs)

    def load(self, ref: str) -> nn.Module:
        """The trained network of a version, in eval mode.

        Parameters
        ----------
        ref : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        """
        from maas_magics.core.inference.loader import Loader
        from maas_magics.core.networks.outputs import as_written
        from maas_magics.core.store.models import Store

        self.wait_for(ref)
        backend = self.backend
        if not isinstance(backend.models, Store):
            raise OptionError("The model is on another machine; its network is not here.")
        loader: Loader = backend.loader  # type: ignore[attr-defined]
        return as_written(loader.model(*backend.models.whole(ref)).net)


def _of_heads(columns: dict[str, Any], info: ModelInfo, request: PredictRequest) -> dict[str, Any]:
    """An array for each head of a model of several: its answer, or the probabilities of its labels."""
    from maas_magics.core.data.sources import as_numpy

    wanted = {head: f"{head}_probabilities" if request.probabilities else head for head in info.target}
    return {head: as_numpy(columns.get(name, columns[head])) for head, name in wanted.items()}


def _flat(columns: dict[str, Any], info: ModelInfo) -> dict[str, Any]:
    """One column for each number: probabilities by label, several predictions by target."""
    flat: dict[str, Any] = {}
    for name, values in columns.items():
        if getattr(values, "ndim", 1) == 1:
            flat[name] = values
            continue
        if info.vector or values.ndim > 2:
            from maas_magics.core.data.vectors import one_column

            flat[name] = one_column(values)
            continue
        head = name.removesuffix("_probabilities")
        labels: Sequence[Any]
        if name == "probabilities":
            prefix, labels = "probability", info.classes
        elif name != head and head in info.head_classes:
            prefix, labels = f"{head}_probability", info.head_classes[head]
        else:
            prefix, labels = name, info.target
        width = values.shape[1]
        shown: Sequence[Any] = labels if len(labels) == width else range(width)
        flat |= {f"{prefix}_{label}": values[:, i] for i, label in enumerate(shown)}
    return flat


_session: Session | None = None


def current() -> Session:
    """The session of this process, made on first use."""
    global _session
    if _session is None:
        _session = Session()
    return _session
