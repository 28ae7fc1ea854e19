"""What can be asked for: frozen values, one kind for each word of a cell.

A field typed ``Any`` takes a live object of the notebook (a table, a module, a loss)
as well as its plain stand-in (a path, a registered name), so the same request serves
in this process and, with live objects uploaded or declared, on another machine.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

import msgspec

from maas_magics.api.results import Artifact, Metrics, Prediction, TrainedModel

R = TypeVar("R")

Task = Literal["binary", "multiclass", "multilabel", "regression"]


SPLITS = ("time", "group")
"""Kinds of splits that a column decides."""


def is_named_split(validation: Any) -> bool:
    """Whether ``validation`` names a column that decides which rows are held out: ``time:COLUMN``, ``group:COLUMN``."""
    return isinstance(validation, str) and validation.partition(":")[0] in SPLITS and ":" in validation


class Request(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Anything a backend runs; ``R`` is what comes back."""


class TrainRequest(Request[TrainedModel], frozen=True, kw_only=True):
    """Fit a model and publish it as a new version of ``name``.

    Attributes
    ----------
    name : str
        Model name.
    data : Any
        Table, arrays, path or URL, torch ``Dataset`` or ``DataLoader``.
    target : Any
        Column name, several column names, or an array of the same length as ``data``.
    model : Any
        ``"auto"``, an architecture's name, or a ``torch.nn.Module``.
    source : str
        Python source that made a live module, kept with the model.
    params : dict of str to Any
        Hyperparameters of a named architecture.
    task : Task or None
        Inferred from the target when None.
    loss : Any
        ``"auto"``, a loss by name, or a callable ``(outputs, target) -> scalar tensor``.
    outputs : {"logits", "probabilities", "values"} or None
        What the network's outputs are, which decides how they become answers; what the loss takes them for when None.
    optimizer : str or None
        Name in ``torch.optim``; the architecture's own when None.
    optimizer_params : dict of str to Any
        Further arguments of the optimizer.
    lr : float, "auto" or None
        The architecture's own when None; ``"auto"`` tries rising rates on a hundred steps that are taken back, and
        takes the one at which the loss falls fastest (Smith 2017).
    weight_decay : float or None
        The architecture's own when None.
    schedule : str or None
        Learning-rate schedule: ``constant``, ``cosine``, ``linear``, ``one-cycle``, ``coslog4`` or ``flat-cos`` by the
        share of the training done; ``plateau`` by the ``monitor``; or a class of ``torch.optim.lr_scheduler``, which
        goes by epochs (``OneCycleLR`` and ``CyclicLR`` by steps).
    schedule_params : dict of str to Any
        Arguments of ``plateau`` or of that class.
    warmup : float
        Share of the training below 1, or a whole number of steps, in which the learning rate rises in a straight line
        before the schedule begins.
    lr_of : dict of str to float
        Learning rates of the parameters whose names match a pattern (``{"head.*": 1e-3}``); the last match counts.
    freeze : tuple of str
        Patterns of parameters that stay as they are, with the statistics of their batch-norms.
    unfreeze : dict of str to int
        Epoch, counted from 1, from which on frozen parameters that match a pattern learn.
    epochs : int or None
        Most epochs.
    batch_size : int, "auto" or None
        Rows of one batch; ``"auto"`` tries which is the largest that fits into memory and is no slower.
    accumulate : int
        Batches of one optimizer step; the gradient is that of one batch of all their rows. Layers with statistics of
        a batch still see each by itself.
    clip : float or None
        Largest norm of the gradient of all weights together; a longer one is shortened to it.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic of training steps; weights and validation stay in fp32.
    ema : float or None
        Decay of an exponential moving average of the weights, 0 < decay < 1, which is then validated and published.
    patience : int or None
        Epochs without a better ``monitor`` before training stops; 0 never stops early.
    monitor : str or None
        Validation figure that chooses the best epoch: ``"loss"`` or a metric's name.
    validation : Any
        Share of the rows held out (0 ≤ share < 1), data of the same form as ``data``, or a column that decides:
        ``"time:COLUMN"`` or ``"time:COLUMN:SHARE"`` holds out the latest rows, ``"group:COLUMN"`` or
        ``"group:COLUMN:SHARE"`` all rows of some groups, drawn by the seed. The column stays a feature unless dropped.
    weights : str or None
        Column with the weight of each row, from 0, in the loss, and in the loss and our metrics of held-out rows; it is
        no feature. Times the class weights, where there are any.
    drop : tuple of str
        Columns that are no features.
    features : tuple of str
        The only columns that are features; all but the target's where empty.
    metrics : tuple of Any
        Names of metrics, or callables ``(outputs, target) -> float``; the task's usual ones when empty.
    class_weights : Any
        None, ``"balanced"``, or one weight for each label.
    balance : bool
        Draw the training rows with replacement, each label equally likely.
    label_smoothing : float or None
        Share of the target spread over all classes.
    preprocess : {"auto", "none"}
        ``"none"`` hands numeric columns to the module as they are.
    seed : int
        Seed of the split, the initial weights and the order of rows.
    device : str
        ``"auto"`` or a torch device.
    threads : int or None
        CPU threads, of each worker where there are several; chosen by the size of a step when None.
    compile : bool or None
        Compile several steps at a time while the training goes on, and use them where a trial shows them right and
        faster; equal to plain steps in value, not in bits.
    fast : {"auto"} or None
        ``"auto"`` tries CPU threads, bf16 and loader workers on a few real steps, takes what is faster, and compiles
        steps where that pays. The trials leave nothing behind: with nothing chosen the training is as without it, to
        the bit.
    profile : bool
        Time the parts of the training, and show them.
    checkpoint_every : str or None
        ``"500"`` for every 500 optimizer steps, ``"30s"`` for every thirty seconds; seldom when None.
    resume : bool or str
        Go on from the newest checkpoint of this name, or of the job with this id. Whatever the request leaves out is
        as in the request that made it.
    csv : str or None
        How CSV files are written, where their beginning does not tell: ``"sep=; decimal=, encoding=latin-1
        missing=NA"``, each part if need be.
    stream : bool or None
        Whether the rows of a file are read from disk while they are trained on; decided by their size when None.
    better_than : float or None
        Publish only if the best epoch's ``monitor`` is better than this; otherwise the result has version 0.
    workers : int
        Processes that share the rows of every step.
    shard : bool
        Whether each worker keeps only its share of weights, gradients and optimizer state between steps.
    loader_workers : int or None
        Processes that read the rows of a map-style torch ``Dataset``, 0 for this one; the rows are the same either
        way. 0 when None, or what ``fast`` finds.
    sample : int
        Rows, held-out ones where there are any, that are kept as they came beside the version, to verify exports on;
        0 to 1,000.
    """

    name: str
    data: Any = None
    target: Any = None
    model: Any = "auto"
    source: str = ""
    params: dict[str, Any] = {}
    task: Task | None = None
    loss: Any = "auto"
    outputs: Literal["logits", "probabilities", "values"] | None = None
    optimizer: str | None = None
    optimizer_params: dict[str, Any] = {}
    lr: float | Literal["auto"] | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    schedule_params: dict[str, Any] = {}
    warmup: float = 0.0
    lr_of: dict[str, float] = {}
    freeze: tuple[str, ...] = ()
    unfreeze: dict[str, int] = {}
    epochs: int | None = None
    batch_size: int | Literal["auto"] | None = None
    accumulate: int = 1
    clip: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    ema: float | None = None
    patience: int | None = None
    monitor: str | None = None
    validation: Any = None
    weights: str | None = None
    drop: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    metrics: tuple[Any, ...] = ()
    class_weights: Any = None
    balance: bool = False
    label_smoothing: float | None = None
    preprocess: Literal["auto", "none"] = "auto"
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    compile: bool | None = None
    fast: Literal["auto"] | None = None
    profile: bool = False
    checkpoint_every: str | None = None
    resume: bool | str = False
    csv: str | None = None
    stream: bool | None = None
    better_than: float | None = None
    workers: int = 1
    shard: bool = False
    loader_workers: int | None = None
    sample: int = 1_000


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
    """

    model: str
    data: Any
    target: Any = None
    metrics: tuple[Any, ...] = ()
    csv: str | None = None


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
    out : str or None
        Folder or file that gets a copy.
    """

    model: str
    format: str = "onnx"
    tolerance: float = 1e-4
    out: str | None = None


class PredictRequest(Request[Prediction], frozen=True, kw_only=True):
    """Ask a model.

    Attributes
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    data : Any
        Table, arrays, path or URL.
    probabilities : bool or None
        Whether every label's probability is wanted; by default for at most 20 labels.
    top : int
        How many of the likeliest labels are wanted; 0 for the plain answer.
    batch_size : int or None
        Rows asked at a time.
    csv : str or None
        As in `TrainRequest`.
    """

    model: str
    data: Any
    probabilities: bool | None = None
    top: int = 0
    batch_size: int | None = None
    csv: str | None = None


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask a model for one answer that comes in chunks.

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
    """

    model: str
    data: Any
    params: dict[str, Any] = {}
    max_steps: int | None = None
    timeout: float | None = None
