"""What comes back: frozen values that show themselves as a line of text or a small table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from maas_magics.api.frontier import Loss, Tried, as_html, as_text
from maas_magics.api.gallery import Example, html_gallery
from maas_magics.api.signature import Signature, TensorSpec
from maas_magics.api.tables import format_number, html_table, size, text_table

FEW = 4
"""Labels that are named in a line."""


def always(baseline: Mapping[str, float]) -> str:
    """What a baseline answers to every row, in words.

    Parameters
    ----------
    baseline : mapping of str to float
        Metrics of a constant answer, by name.
    """
    ends = {name.rpartition("_")[2] for name in baseline} - {"loss"}
    if ends and ends <= {"rmse", "mae", "r2"}:
        return "always the mean"
    if ends & {"rmse", "mae", "r2"}:  # of several targets
        return "a constant answer"
    if any(name == "mrr" or name.startswith("recall@") for name in baseline):
        return "chance"
    if "perplexity" in baseline:
        return "by how frequent tokens are"
    return "a constant answer" if set(baseline) <= {"loss"} else "most frequent label"


def with_baseline(figures: Mapping[str, float], baseline: Mapping[str, float]) -> str:
    """Metrics in a line, the first one beside that of a constant answer.

    Parameters
    ----------
    figures : mapping of str to float
        Metrics by name.
    baseline : mapping of str to float
        The same metrics of a constant answer.
    """
    known = [name for name in figures if name in baseline]
    first = next((name for name in known if name != "loss"), known[0] if known else "")
    beside = f" ({always(baseline)}: {format_number(baseline[first])})" if first else ""
    return ", ".join(
        f"{name} {format_number(value)}{beside if name == first else ''}" for name, value in figures.items()
    )


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of one version of a model.

    Attributes
    ----------
    name, version
        Together its reference, ``name:version``.
    task, architecture : str
    target : tuple of str
        Columns it answers; empty for array targets.
    classes : tuple of str
        Labels in the order of the probabilities; empty for regression.
    metrics : dict of str to float
        Metrics of the validation rows at the best epoch.
    baseline : dict of str to float
        The same metrics of always answering the mean, or the most frequent label, of the training rows.
    created : float
        Seconds since the Unix epoch.
    parameters : int
        Trainable parameters.
    signature : Signature
        Raw columns or arrays that it takes, and answers that it gives.
    exports : tuple of str
        Variants exported so far.
    aliases : tuple of str
        Aliases that name this version.
    lineage : dict of str to str
        Where it came from: digest of the training rows, seed, library versions.
    head_classes : dict of str to tuple of str
        Labels of each head, where a model answers several targets.
    iterative : bool
        Whether an answer takes several passes, and comes in chunks.
    vector : bool
        Whether an answer is one vector, rather than several quantities.
    streams : bool
        Whether the answer to one row also comes in chunks, as `writes_to` has it.
    """

    name: str
    version: int
    task: str
    architecture: str
    target: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    baseline: dict[str, float] = {}
    created: float = 0.0
    parameters: int = 0
    signature: Signature = Signature((), ())
    exports: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    lineage: dict[str, str] = {}
    head_classes: dict[str, tuple[str, ...]] = {}
    iterative: bool = False
    vector: bool = False
    streams: bool = False

    @property
    def draws(self) -> bool:
        """Whether its answers are pictures that it draws."""
        return self.iterative and [spec.datatype for spec in self.signature.outputs] == ["UINT8"]

    def writes_to(self, data: Any) -> bool:
        """Whether an answer comes in chunks: of a model in several passes, or of one that is given one file.

        Parameters
        ----------
        data : Any
            Of the request.
        """
        values = list(data.values()) if isinstance(data, dict) else [data]
        return self.iterative or (self.streams and len(values) == 1 and isinstance(values[0], (bytes, bytearray)))

    @property
    def writes(self) -> bool:
        """Whether it writes texts: it reads one, and answers in several passes."""
        inputs = self.signature.inputs
        return self.iterative and not self.draws and [spec.datatype for spec in inputs] == ["BYTES"]

    @property
    def ref(self) -> str:
        """``name:version``."""
        return f"{self.name}:{self.version}"

    def __repr__(self) -> str:
        """One line: what it does, of what it is made, and its metrics."""
        parts = [self.ref, self.task, self.architecture]
        if self.classes:
            parts.append(f"{len(self.classes):,} classes" if len(self.classes) > FEW else ", ".join(self.classes))
        if self.metrics:
            parts.append(", ".join(f"{name} {format_number(value)}" for name, value in self.metrics.items()))
        takes = ", ".join(spec.name for spec in self.signature.inputs)
        return f"<ModelInfo {' · '.join(parts)}{f' · takes {takes}' if takes else ''}>"


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """Versions that were copied between two stores.

    Attributes
    ----------
    pushed : tuple of str
        Addresses of those that were sent, whole or in part.
    pulled : tuple of str
        ``NAME:VERSION`` of those that were fetched.
    files : int
        Files that were copied; none where all was there.
    there, here : tuple of str
        Where the version is now that was named.
    """

    pushed: tuple[str, ...] = ()
    pulled: tuple[str, ...] = ()
    files: int = 0
    there: tuple[str, ...] = ()
    here: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line: what was copied, or that all was there."""
        told = [f"sent {one}" for one in self.pushed] + [f"fetched {one}" for one in self.pulled]
        if not told:
            told = [f"all was there{': ' if self.there + self.here else ''}{', '.join(self.there + self.here)}"]
        return f"<Copied {' · '.join(told)} · {self.files} file{'' if self.files == 1 else 's'}>"


class TrainedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A published version and how its training went.

    Attributes
    ----------
    info : ModelInfo
    best_epoch, epochs : int
        Epoch whose weights were kept, and epochs that ran.
    history : dict of str to list of float
        One value for each epoch: ``loss``, ``val_loss``, ``val_accuracy`` … and ``lr``.
    seconds : float
        Wall time of the training, also of what was done before it was paused or resumed.
    stopped : bool
        Whether the user stopped it before its last epoch.
    diverged : bool
        Whether the loss became NaN or infinite after ``best_epoch``, which ended the training.
    notes : tuple of str
        What speaks against its use: metrics no better than a constant's, a loss that grew, labels of one row.
    profile : dict of str to float
        With ``--profile``, seconds of the whole training that went into ``data``, ``forward``, ``backward``,
        ``optimizer``, ``events`` and ``validation``, and into ``compiled`` steps and ``compiling`` where there are any.
    sample : int
        Rows that are kept as they came beside the version, to verify exports on.
    """

    info: ModelInfo
    best_epoch: int
    epochs: int
    history: dict[str, list[float]]
    seconds: float
    stopped: bool = False
    diverged: bool = False
    notes: tuple[str, ...] = ()
    profile: dict[str, float] = {}
    sample: int = 0

    @property
    def ref(self) -> str:
        """``name:version``."""
        return self.info.ref

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the validation rows at the best epoch."""
        return self.info.metrics

    @property
    def baseline(self) -> dict[str, float]:
        """The same metrics of always answering the mean, or the most frequent label, of the training rows."""
        return self.info.baseline

    @property
    def _ending(self) -> str:
        return ", then it diverged" if self.diverged else ", stopped" if self.stopped else ""

    def _rows(self) -> list[tuple[str, str]]:
        info = self.info
        return [
            ("model", info.ref),
            ("task", info.task + (f", {len(info.classes)} classes" if info.classes else "")),
            ("architecture", f"{info.architecture}, {info.parameters:,} parameters"),
            ("best epoch", f"{self.best_epoch} of {self.epochs}{self._ending}"),
            *((f"validation {name}", format_number(value)) for name, value in self.metrics.items()),
            ("rows kept", f"{self.sample:,}, to verify exports on (--sample 0 keeps none)" if self.sample else "none"),
        ]

    def __repr__(self) -> str:
        figures = with_baseline(self.metrics, self.baseline)
        ending = self._ending if self.diverged else ""
        epochs = f"epoch {self.best_epoch} of {self.epochs}{ending}"
        notes = "".join(f"\n⚠ {text}" for text in self.notes)
        return f"<TrainedModel {self.ref} · {self.info.task} · {epochs} · {figures}>{notes}"


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics of a model on some rows; reads like a dict.

    Attributes
    ----------
    model : str
        ``name:version``.
    rows : int
    values : dict of str to float
    classes : tuple of str
        Labels of the confusion matrix.
    confusion : list of list of int
        Rows of true labels, columns of answers; empty unless the task has one label a row.
    baseline : dict of str to float
        The same metrics of always answering the mean, or the most frequent label, of the training rows.
    worst : tuple of Example
        Of a model of pictures or sounds: rows that it is most wrong about.
    """

    model: str
    rows: int
    values: dict[str, float]
    classes: tuple[str, ...] = ()
    confusion: list[list[int]] = []
    baseline: dict[str, float] = {}
    worst: tuple[Example, ...] = ()

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def keys(self) -> Iterator[str]:
        """Names of the metrics."""
        return iter(self.values)

    def __repr__(self) -> str:
        return f"<Metrics {self.model} · {self.rows:,} rows · {with_baseline(self.values, self.baseline)}>"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, ...]] = [(name, format_number(value)) for name, value in self.values.items()]
        head: tuple[str, ...] = ()
        if self.baseline:
            rows = [(*row, format_number(self.baseline.get(row[0], float("nan")))) for row in rows]
            head = ("", "model", always(self.baseline))
        parts = [html_table(rows, f"{self.model}, {self.rows:,} rows", head)]
        if self.confusion and len(self.classes) <= 20:
            head = ("true ↓ answer →", *self.classes)
            body = [(label, *map(str, row)) for label, row in zip(self.classes, self.confusion, strict=True)]
            parts.append(html_table(body, "confusion matrix", head))
        parts.append(html_gallery(self.worst, "worst mistakes"))
        return "".join(parts)


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """How an exported file compares with the model it was made of.

    Attributes
    ----------
    rows : int
        Rows that both answered.
    max_abs_diff, tolerance : float
        Largest difference of any output, and the one accepted: of probabilities; of quantities in standard deviations
        of the target, or as a share of the largest where the target was learnt as it is. There is none of a file that
        no runtime opens here.
    max_drop : float or None
        Of a compressed file: what its first metric may lose, instead of a tolerance.
    metrics_before, metrics_after : dict of str to float
        On the model's validation rows.
    bytes_before, bytes_after : int
        Weights of the model, files of the export.
    latency_before, latency_after : dict of str to float
        Milliseconds for one call, by batch size: the median.
    slowest_after : dict of str to float
        The same of the file, the 99th percentile.
    mean_abs_diff : float or None
        Mean difference of all outputs, in the units of the largest.
    lost : dict of str to Loss
        Of a compressed file: what each metric lost that is held to ``max_drop``.
    second : str
        What a second runtime found of a file whose errors the first one may hide; else empty.
    memory : int
        Bytes of memory that the process took to open the file and to answer the rows; 0 where it was not measured.
    unverified : str
        Why nobody asked the file; empty where it was verified.
    """

    rows: int
    max_abs_diff: float | None
    tolerance: float
    metrics_before: dict[str, float]
    metrics_after: dict[str, float]
    bytes_before: int
    bytes_after: int
    latency_before: dict[str, float]
    latency_after: dict[str, float]
    max_drop: float | None = None
    slowest_after: dict[str, float] = {}
    mean_abs_diff: float | None = None
    lost: dict[str, Loss] = {}
    second: str = ""
    memory: int = 0
    unverified: str = ""

    @property
    def difference(self) -> str:
        """The largest difference, written down."""
        return "unknown" if self.max_abs_diff is None else f"{self.max_abs_diff:.1e}"

    def __str__(self) -> str:
        return "not verified" if self.unverified else f"max |Δ| {self.difference}"


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """An exported, verified file of a model.

    Attributes
    ----------
    model : str
        ``name:version``.
    variant, format : str
    path : str
        Folder that holds it.
    digest : str
        SHA-256 of the model file, hexadecimal.
    signature : Signature
    verification : Verification
    files : dict of str to str
        SHA-256 of every file in the folder, the report itself apart; empty in exports of before.
    versions : dict of str to str
        Versions of the libraries that made it and that it was verified with.
    opset : dict of str to int
        Of an ONNX file: versions of its sets of operators, by domain.
    operators : dict of str to int
        Of an ONNX file: how often each operator occurs, loops and branches included.
    stayed : tuple of str
        Of a compressed file: sentences about what each step left as it was.
    frontier : tuple of Tried
        With ``--auto``: what was tried, this one among it.
    notes : tuple of str
        What else is to be said of how it was made.
    """

    model: str
    variant: str
    format: str
    path: str
    digest: str
    signature: Signature
    verification: Verification
    files: dict[str, str] = {}
    versions: dict[str, str] = {}
    opset: dict[str, int] = {}
    operators: dict[str, int] = {}
    stayed: tuple[str, ...] = ()
    frontier: tuple[Tried, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> list[tuple[str, str, str]]:
        """What was found beside metrics and inputs: what it is, of the model in PyTorch, of the file."""
        check = self.verification
        before, after = check.latency_before, check.latency_after
        accepted = f"{check.tolerance:.0e}" if check.max_drop is None else f"a loss of {check.max_drop:.1%}"
        mean = "" if check.mean_abs_diff is None else f", mean {check.mean_abs_diff:.1e}"
        return [
            ("max |Δ|", "", f"{check.difference}{mean} on {check.rows:,} rows (accepted: {accepted})")
            if not check.unverified
            else ("not verified", "", check.unverified),
            *((f"loss of {name}", "", str(loss)) for name, loss in check.lost.items()),
            *([("second runtime", "", check.second)] if check.second else []),
            *(("stays as it was", "", text) for text in self.stayed),
            *(("how it was made", "", text) for text in self.notes),
            ("size", size(check.bytes_before), size(check.bytes_after)),
            *(
                (f"ms at batch {batch}", _milliseconds(before, batch), _slowest(after, check.slowest_after, batch))
                for batch in sorted({*before, *after}, key=int)
            ),
            *([("memory", "", size(check.memory))] if check.memory else []),
            *([("operators", "", _counted(self.operators))] if self.operators else []),
            *([("opset", "", ", ".join(_opset(*each) for each in self.opset.items()))] if self.opset else []),
            *([("made with", "", ", ".join(map(" ".join, self.versions.items())))] if self.versions else []),
        ]

    def _rows(self) -> list[tuple[str, str, str]]:
        check, (first, *rest) = self.verification, self.measured
        return [
            first,
            *(
                (name, format_number(value), format_number(check.metrics_after.get(name, float("nan"))))
                for name, value in check.metrics_before.items()
            ),
            *(("input " + spec.name, "", spec.meaning) for spec in self.signature.inputs if _has_unit(spec)),
            *rest,
        ]

    def __repr__(self) -> str:
        return f"<Artifact {self.model} · {self.variant} · {self.verification}>"

    def report(self) -> str:
        """The verification as a table of text."""
        found = text_table(self._rows(), ("", "PyTorch", self.variant))
        return f"{as_text(self.frontier)}\n\n{found}" if self.frontier else found

    def _repr_html_(self) -> str:
        found = html_table(self._rows(), f"{self.model} → {self.variant}", ("", "PyTorch", self.variant))
        return as_html(self.frontier) + found if self.frontier else found


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """A model's answers, by column.

    Attributes
    ----------
    model : str
        ``name:version``.
    columns : dict of str to Any
        Arrays of one entry a row; an answer of several values a row is a 2-D array, and
        labels of text are an Arrow dictionary array.
    blank : int
        Answers that rest on nothing but missing values, and texts that were not learnt.
    cautions : tuple of str
        Sentences about what was assumed of the rows.
    """

    model: str
    columns: dict[str, Any]
    blank: int = 0
    cautions: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Notes on the answers, for the user."""
        if not self.blank:
            return self.cautions
        return (on_nothing(self.blank, len(next(iter(self.columns.values())))), *self.cautions)


def on_nothing(blank: int, rows: int) -> str:
    """Warning about answers that rest on nothing.

    Parameters
    ----------
    blank : int
        Rows without any information.
    rows : int
        All rows.
    """
    which = "The answer rests" if rows == 1 else f"{blank:,} of {rows:,} answers rest"
    each = "its row" if rows == 1 else "their rows"
    return f"{which} on nothing: every value of {each} is missing, or a text that was not learnt."


def _has_unit(spec: TensorSpec) -> bool:
    """Whether an input's numbers are not those of the data."""
    return ";" in spec.meaning


def _slowest(measured: Mapping[str, float], slowest: Mapping[str, float], batch: str) -> str:
    """Milliseconds: the median, and the 99th percentile where it was measured."""
    return _milliseconds(measured, batch) + (f" (p99 {slowest[batch]:.3f})" if batch in slowest else "")


def _counted(operators: Mapping[str, int]) -> str:
    often = sorted(operators.items(), key=lambda each: (-each[1], each[0]))
    rest = f", {len(often) - 6} more" if len(often) > 6 else ""
    return ", ".join(f"{name} {count}" for name, count in often[:6]) + rest


def _opset(domain: str, version: int) -> str:
    return f"{domain or 'ai.onnx'} {version}"


def _milliseconds(measured: Mapping[str, float], batch: str) -> str:
    return f"{measured[batch]:.3f}" if batch in measured else "–"
