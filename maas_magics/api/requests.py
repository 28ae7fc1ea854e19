"""What can be requested: frozen values, one kind for each word of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import msgspec

from maas_magics.api.options import attributes, option
from maas_magics.api.results import Artifact, Copied, Metrics, ModelInfo, Prediction, TrainedModel
from maas_magics.api.specs import (
    SPECS,
    BudgetSpec,
    Csv,
    Data,
    DataSpec,
    MaxBad,
    MetricNames,
    ModelSpec,
    OptimizerSpec,
    RunSpec,
    Spec,
    Specs,
    TaskSpec,
)

R = TypeVar("R")
S = TypeVar("S", bound=Spec)

SPLITS = ("time", "group")
"""Kinds of splits that a column decides."""


SAMPLED = ("temperature", "top_p", "top_k", "seed", "json", "regex", "steps", "guidance")
"""Options of a prediction that say how tokens are chosen, or pictures drawn; besides lists."""

IMPORTS = ("text-classification", "token-classification", "image-classification", "embedding", "text-to-image")
"""Kinds of import of this package."""


def is_named_split(validation: Any) -> bool:
    """Whether ``validation`` names a column that decides which rows are held out: ``time:COLUMN``, ``group:COLUMN``.

    Parameters
    ----------
    validation : Any
        The option ``--validation``.
    """
    return isinstance(validation, str) and validation.partition(":")[0] in SPLITS and ":" in validation


class Request(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Anything a backend runs; ``R`` is what comes back."""


Model = Annotated[str, option("NAME, NAME:3 or NAME@alias", "NAME", "name", offer="models")]

DOC = f"""Fit a model and publish it as a new version of ``name``: the options of every spec side by side.

Attributes
----------
name : str
    Model name.
{attributes(*SPECS)}
"""


class _Named(Request[TrainedModel], frozen=True, kw_only=True):
    name: Annotated[str, option("name of the model", "NAME", "name", offer="models")]


if TYPE_CHECKING:

    class TrainRequest(
        _Named, DataSpec, ModelSpec, TaskSpec, OptimizerSpec, BudgetSpec, RunSpec, frozen=True, kw_only=True
    ):
        """As below: structs cannot have several bases."""

else:
    TrainRequest = msgspec.defstruct(
        "TrainRequest",
        [
            (
                each.name,
                each.type,
                each.default if each.default_factory is msgspec.NODEFAULT else each.default_factory(),
            )
            for spec in SPECS
            for each in msgspec.structs.fields(spec)
        ],
        bases=(_Named,),
        namespace={"__doc__": DOC},
        module=__name__,
        frozen=True,
        kw_only=True,
    )


def spec_of(request: TrainRequest, kind: type[S]) -> S:
    """One of the six specs of a request.

    Parameters
    ----------
    request : TrainRequest
        The request.
    kind : type of spec
        `DataSpec`, `TaskSpec`, `ModelSpec`, `OptimizerSpec`, `BudgetSpec` or `RunSpec`.
    """
    return kind(**{name: getattr(request, name) for name in kind.__struct_fields__})


def specs_of(request: TrainRequest) -> Specs:
    """The six specs of a request.

    Parameters
    ----------
    request : TrainRequest
        The request.
    """
    return Specs(
        name=request.name,
        data=spec_of(request, DataSpec),
        model=spec_of(request, ModelSpec),
        task=spec_of(request, TaskSpec),
        optimizer=spec_of(request, OptimizerSpec),
        budget=spec_of(request, BudgetSpec),
        run=spec_of(request, RunSpec),
    )


class EvaluateRequest(Request[Metrics], frozen=True, kw_only=True):
    """Score a model on data that has the answers.

    Attributes
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    data, target : Any
        As in `TrainRequest`; the target defaults to the one the model was trained on.
    metrics : tuple of Any
        As in `TrainRequest`; those by name that the model was trained with where none are given.
    csv : str or None
        As in `TrainRequest`.
    max_bad : float or str
        As in `TrainRequest`.
    """

    model: Model
    data: Data
    target: Annotated[
        Any,
        option(
            "column with the answers; the one it was trained on if left out",
            "COLUMN",
            "--target",
            "-t",
            offer="columns",
            listed=True,
        ),
    ] = None
    metrics: MetricNames = ()
    csv: Csv = None
    max_bad: MaxBad = 0.0


class ExportRequest(Request[Artifact], frozen=True, kw_only=True):
    """Convert a model, verify the file against the model, and pack it.

    Attributes
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    format : str
        Name of a registered exporter.
    tolerance : float
        Largest absolute difference of any output that is accepted.
    compress : str or None
        Names of registered compressors, as ``"int8"``, or several, as ``"int8+fp16"``; with a share where one takes
        it, as ``"prune=0.5"``. The file is a variant of the version, ``NAME@int8``.
    max_drop : float or str
        What the first of the usual metrics may lose on held-out rows by being compressed: 0.01 or ``"1%"``; of an
        error, such as the rmse, the share by which it may grow.
    encrypt : bool
        Whether its files are encrypted, by a key of its own that the key of ``MAAS_KEY`` wraps. The variant of a
        version that is not encrypted is ``NAME@onnx+encrypted``; of one that is, every export is encrypted.
    out : str or None
        Folder, file or URL of fsspec that gets a copy.
    auto : bool
        Whether the sensible compressions are tried, and what has least of ``target`` is kept of those that lose no
        more than ``max_drop``.
    target : {"size", "latency"} or None
        Bytes of the files, which is usual, or the time of a call of one row.
    data : Any
        Rows that a pruned network learns on again, of which no answers are needed; half of the held-out rows when None.
    """

    model: Model
    format: Annotated[
        str,
        option(
            "onnx, ort, openvino, pt2, safetensors, litert, executorch, coreml; of what writes gguf",
            "FORMAT",
            "--format",
            "-f",
            offer="formats",
        ),
    ] = "onnx"
    tolerance: Annotated[float, option("largest difference of any output that is accepted (1e-4)", "D")] = 1e-4
    compress: Annotated[
        str | None,
        option(
            "make it smaller: int8, int8-static, int4, fp16, bf16, prune=0.5, several as a+b",
            "HOW",
            offer="compressors",
        ),
    ] = None
    max_drop: Annotated[float | str, option("what its metric may lose by being compressed", "SHARE")] = "1%"
    encrypt: Annotated[bool, option("encrypt its files with the key of MAAS_KEY")] = False
    out: Annotated[
        str | None, option("folder, file or URL that gets a copy", "PATH", "--out", "--to", "-o", offer="files")
    ] = None
    auto: Annotated[bool, option("try the sensible compressions, keep the best within --max-drop")] = False
    target: Annotated[
        str | None, option("what the best one of --auto has least of: size or latency (size)", "WHAT")
    ] = None
    data: Annotated[
        Any, option("rows that a pruned network learns on again", "DATA", "--data", "-d", reads="data", offer="tables")
    ] = None


class ImportRequest(Request[ModelInfo], frozen=True, kw_only=True):
    """Publish what a Hugging Face folder, or a file of ONNX or Keras, holds as a version, without a training.

    Attributes
    ----------
    path : str
        Folder as ``save_pretrained`` writes it, a name on the hub, an ONNX file, a file of Keras or a SavedModel, where
        the request runs.
    name : str
        Model name.
    kind : str or None
        Name of a registered kind of import; recognised when None.
    column : str or None
        Name of the column that it reads; ``text``, ``tokens`` or ``picture`` when None.
    data, target : Any
        Held-out rows that have the answers, of which the first 1,000 are kept: they give the version its metrics, and
        compressions are judged on them. The target is ``label``, ``value`` or ``tags``, or the labels, when None.
    """

    path: Annotated[
        str,
        option(
            "file of ONNX or Keras, folder of save_pretrained or SavedModel, or OWNER/NAME of the hub",
            "FILE",
            "path",
            offer="files",
            reads="object",
        ),
    ]
    name: Annotated[str, option("name of the model", "NAME", "--as", offer="models")]
    kind: Annotated[str | None, option("what it is; recognised if left out", "KIND", offer=IMPORTS)] = None
    column: Annotated[str | None, option("name of the column that it reads", "NAME")] = None
    data: Annotated[
        Any,
        option(
            "held-out rows, with the answers",
            "DATA",
            "--data",
            "--sample",
            "-d",
            reads="data",
            many="+",
            offer="tables",
        ),
    ] = None
    target: Annotated[
        Any, option("column with the answers", "COLUMN", "--target", "-t", offer="columns", listed=True)
    ] = None


class PushRequest(Request[Copied], frozen=True, kw_only=True):
    """Send a version to a place elsewhere, which is laid out as a store.

    Attributes
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    url : str
        ``s3://bucket/prefix``, any other URL of fsspec, or a folder.
    """

    model: Model
    url: Annotated[str, option("s3://BUCKET/PREFIX, another URL, or a folder", "URL", "url")]


class PullRequest(Request[Copied], frozen=True, kw_only=True):
    """Fetch a version from a place elsewhere.

    Attributes
    ----------
    url : str
        Of a version, of a model, of which the newest version is taken, or of a place with one model.
    name : str or None
        What it is to be called here; as there when None.
    """

    url: Annotated[str, option("address of a version, or of a model", "URL", "url")]
    name: Annotated[str | None, option("name of the model here", "NAME", "--as", offer="models")] = None


class SyncRequest(Request[Copied], frozen=True, kw_only=True):
    """Send what a place elsewhere lacks, and fetch what is missing here.

    Attributes
    ----------
    url : str
        ``s3://bucket/prefix``, any other URL of fsspec, or a folder.
    """

    url: Annotated[str, option("s3://BUCKET/PREFIX, another URL, or a folder", "URL", "url")]


class PredictRequest(Request[Prediction], frozen=True, kw_only=True):
    """Predict with a model.

    Attributes
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    data : Any
        Table, arrays, path or URL.
    top : int
        How many of the likeliest labels are wanted; 0 for the plain answer.
    probabilities : bool or None
        Whether every label's probability is wanted; by default for at most 20 labels.
    batch_size : int or None
        Rows of a batch.
    csv : str or None
        As in `TrainRequest`.
    column : str or None
        Column of the prompts, of a model that writes; by default that which it learnt from, or the only one of texts.
    max_tokens : int or None
        Tokens of what is written at most; 256 by default.
    temperature, top_p, top_k, seed, stop, json, choice, regex
        How tokens are chosen, as in `maas_magics.core.runtimes.text.sampler.TextParams`; the likeliest by default.
    steps, guidance, seed
        How pictures are drawn, as in `maas_magics.core.runtimes.pictures.sampler.PictureParams`.
    """

    model: Model
    data: Annotated[
        Any,
        option(
            "table or array in a variable, an expression, a path or URL; a text in quotes",
            "DATA",
            "data",
            reads="rows",
            many="?",
            offer="tables",
        ),
    ]
    top: Annotated[int, option("the K likeliest labels with their probabilities", "K")] = 0
    probabilities: Annotated[bool | None, option("every label's probability", "", "--proba")] = None
    batch_size: Annotated[int | None, option("rows of a batch", "N")] = None
    csv: Csv = None
    column: Annotated[str | None, option("column of the prompts, of a model that writes", "COLUMN")] = None
    max_tokens: Annotated[int | None, option("tokens of what is written at most", "N")] = None
    temperature: Annotated[float | None, option("0 for the likeliest token, 1 as likely as it is", "T")] = None
    top_p: Annotated[float | None, option("choose among the likeliest tokens that make up this share", "P")] = None
    top_k: Annotated[int | None, option("choose among as many of the likeliest tokens", "K")] = None
    seed: Annotated[int | None, option("of the random numbers: the same text or picture for the same seed", "N")] = None
    stop: Annotated[tuple[str, ...], option("texts before which an answer ends", "TEXT")] = ()
    json: Annotated[
        Any,
        option("schema that answers keep to, in a variable or as JSON; true for any object", "SCHEMA", reads="choice"),
    ] = None
    choice: Annotated[
        tuple[str, ...], option("texts one of which each answer is", "A,B", reads="texts", listed=True)
    ] = ()
    regex: Annotated[str | None, option("regular expression that answers keep to", "RE")] = None
    steps: Annotated[int | None, option("passes from noise to a picture, of a model that draws", "N")] = None
    guidance: Annotated[float | None, option("how closely a picture keeps to its caption; 1 plainly", "G")] = None

    @property
    def sampling(self) -> dict[str, Any]:
        """What was said of how tokens are chosen, or pictures drawn, by name."""
        named = {name: getattr(self, name) for name in SAMPLED}
        found = {name: value for name, value in named.items() if value is not None}
        if isinstance(self.json, str) and self.json.strip().lower() == "true":
            found["json"] = True
        lists = {"stop": list(self.stop), "choice": list(self.choice)}
        return {**found, **{name: values for name, values in lists.items() if values}}


Priority = Literal["interactive", "batch"]


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Generate one answer that comes in chunks.

    Attributes
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    data : Any
        Inputs of one row by the names of the model's signature, or the input alone where there is one; axes of 1 may be
        left out. Rows as for `PredictRequest` where the model answers in one pass.
    params : dict of str to Any
        What the model's sampler takes, such as a temperature or a seed.
    max_steps : int or None
        Passes after which the answer ends at the latest, at least 1; as many as it takes when None.
    timeout : float or None
        Seconds after which it ends with an error, above 0; none when None.
    priority : {"interactive", "batch"}
        Whether someone waits for it; where there is no room for all, what is for a batch waits.
    """

    model: str
    data: Any
    params: dict[str, Any] = {}
    max_steps: int | None = None
    timeout: float | None = None
    priority: Priority = "interactive"
