"""The options of a training, in six parts; each is declared here and nowhere else.

A field typed ``Any`` takes a live object of the notebook (a table, a module, a loss)
as well as its plain stand-in (a path, a registered name), so the same request serves
in this process and, with live objects uploaded or declared, on another machine.
"""

# No annotations from the future: as texts they would take twice as long to read.
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import msgspec

from maas_magics.api.callbacks import Callback
from maas_magics.api.options import option

METRIC_NAMES = ("accuracy", "balanced_accuracy", "f1", "auc", "log_loss", "rmse", "mae", "r2")
OPTIMIZERS = ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "LBFGS")
SCHEDULES = (
    "constant",
    "cosine",
    "linear",
    "one-cycle",
    "coslog4",
    "flat-cos",
    "warm-cosine",
    "plateau",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "StepLR",
)

Data = Annotated[
    Any,
    option(
        "table or array in a variable, a path or URL; X y for two arrays",
        "DATA",
        "--data",
        "-d",
        reads="data",
        many="+",
        offer="tables",
    ),
]
Csv = Annotated[
    str | None,
    option(
        "how CSV files are written: sep=; decimal=, encoding=latin-1 missing=NA dates=dmy skip=2 header=no",
        "KEY=VALUE",
        many="+",
        offer=("sep=;", "sep=tab", "decimal=,", "encoding=latin-1", "missing=NA", "dates=dmy", "skip=1", "header=no"),
    ),
]
MaxBad = Annotated[
    float | str,
    option("share of rows whose files cannot be read and are left out: 1%", "SHARE", offer=("1%",)),
]
MetricNames = Annotated[
    tuple[Any, ...],
    option(
        "metrics as a,b: ours, classes of torchmetrics, functions",
        "NAMES",
        reads="commas",
        offer="metrics",
        listed=True,
        takes=str | Sequence[str | Callable[..., Any]],
    ),
]


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """Part of the options of a training."""


class DataSpec(Spec, frozen=True, kw_only=True):
    """Which rows are learnt from, and which of their columns.

    Attributes
    ----------
    data : Any
        Table, arrays, path or URL, torch ``Dataset`` or ``DataLoader``.
    target : Any
        Column name, several column names, or an array of the same length as ``data``.
    text : str or None
        Column of captions, where the target is the pictures that are to be drawn from them; the only column of texts
        when None.
    validation : Any
        Share of the rows held out (0 ≤ share < 1), data of the same form as ``data``, or a column that decides:
        ``"time:COLUMN"`` or ``"time:COLUMN:SHARE"`` holds out the latest rows, ``"group:COLUMN"`` or
        ``"group:COLUMN:SHARE"`` all rows of some groups, drawn by the seed. The column stays a feature unless dropped.
    weights : str or None
        Column with the weight of each row, from 0, in the loss, and in the loss and our metrics of held-out rows; it is
        not a feature. Multiplied by the class weights, where there are any.
    drop : tuple of str
        Columns that are not features.
    features : tuple of str
        The only columns that are features; all but the target's where empty.
    inputs : dict of str to str
        For each argument of a module's ``forward``, the column, array or key of the data that it gets; those that have
        its name where empty.
    feature : dict of str to str
        What a column is: ``"text"`` is read by a network of its own, ``"column"`` is laid beside the others, whatever
        it looks like; recognised by default.
    max_bad : float or str
        Largest share of rows whose files cannot be read, which are then left out and named: ``0.01`` or ``"1%"``; 0
        refuses the first.
    augment : tuple of str
        Ways in which training rows are varied anew in each epoch, with strengths: of pictures ``"flip"``, ``"crop"``,
        ``"rotate"``, ``"color"``, ``"erase"``, of sounds ``"shift"``, ``"gain"``, ``"noise"``, ``"mask"``;
        ``"flip,crop=0.5"``. Held-out rows stay as they are.
    pairs : tuple of str
        For the task ``embedding``: two columns, each row of which holds two values whose vectors are to be near each
        other, as a question and its answer. One network makes vectors of both.
    balance : bool
        Draw the training rows with replacement, each label equally likely.
    preprocess : {"auto", "none"}
        ``"none"`` hands numeric columns to the module as they are.
    csv : str or None
        How CSV files are written, where their beginning does not show it: ``"sep=; decimal=, encoding=latin-1
        missing=NA"``, each part optional.
    stream : bool or None
        Whether the rows of a file are read from disk while they are trained on; decided by their size when None.
    """

    data: Data = None
    target: Annotated[
        Any,
        option(
            "column to learn, several as a,b, or an array", "COLUMN", "--target", "-t", offer="columns", listed=True
        ),
    ] = None
    text: Annotated[
        str | None, option("column of captions, of pictures that are drawn from them", "COLUMN", offer="columns_only")
    ] = None
    validation: Annotated[
        Any, option("share held out, time:COLUMN, group:COLUMN, or another table", "SHARE", offer="splits")
    ] = None
    weights: Annotated[str | None, option("column with the weight of each row", "COLUMN", offer="columns_only")] = None
    drop: Annotated[
        tuple[str, ...],
        option("columns that are not features, as a,b", "COLUMNS", reads="quoted", offer="columns_only", listed=True),
    ] = ()
    features: Annotated[
        tuple[str, ...],
        option("the only features, as a,b", "COLUMNS", reads="quoted", offer="columns_only", listed=True),
    ] = ()
    inputs: Annotated[
        dict[str, str],
        option("what the module's arguments get: ids=tokens,mask=mask", "ARGUMENT=COLUMN", reads="pairs"),
    ] = {}
    feature: Annotated[
        dict[str, str],
        option("what a column is: review=text, code=column", "COLUMN=KIND", reads="pairs", offer="kinds_of_columns"),
    ] = {}
    max_bad: MaxBad = 0.0
    augment: Annotated[
        tuple[str, ...],
        option("how pictures and sounds are varied in training: flip,crop=0.5,color", "WAYS", reads="text"),
    ] = ()
    pairs: Annotated[
        tuple[str, ...],
        option(
            "two columns whose values belong together, as question,answer: --task embedding",
            "COLUMNS",
            reads="quoted",
            offer="columns_only",
            listed=True,
        ),
    ] = ()
    balance: Annotated[bool, option("draw the rows with each label equally likely")] = False
    preprocess: Annotated[Literal["auto", "none"], option("none hands numbers to the module as they are", "HOW")] = (
        "auto"
    )
    csv: Csv = None
    stream: Annotated[bool | None, option("read the file's rows from disk while training, however small it is")] = None


class TaskSpec(Spec, frozen=True, kw_only=True):
    """What is learnt, and how it is measured.

    Attributes
    ----------
    task : str, dict of str to str, or None
        Name of a registered task, such as ``"binary"``; inferred from the target when None. Of several targets one for
        all, or one for each that is named: a dict, or ``"a=binary,b=regression"``.
    loss : Any
        ``"auto"``, a loss by name, or a callable ``(outputs, target) -> scalar tensor``; of several targets one for
        all, or one for each: a dict, or ``"a=mse,b=cross_entropy"``.
    loss_weights : dict of str to float
        Weight of each target's loss in their sum, at least 0, where there are several; 1 where it is left out.
    label_smoothing : float or None
        Share of the target spread over all classes.
    class_weights : Any
        None, ``"balanced"``, or one weight for each label; of several targets, one of these for each that is named, as
        ``{"kind": "balanced"}``, or ``"balanced"`` for all that are labels.
    metrics : tuple of Any
        Names of metrics, or callables ``(outputs, target) -> float``; the task's usual ones when empty.
    monitor : str or None
        Validation metric that chooses the best epoch: ``"loss"`` or a metric's name.
    teacher : str or None
        ``NAME``, ``NAME:3`` or ``NAME@variant`` of a model whose answers to the training rows are learnt beside the
        target (Hinton et al. 2015).
    distill_alpha : float
        Share of the loss against the teacher's answers, from 0 to 1; the rest is the loss against the target.
    temperature : float
        What logits are divided by where probabilities are compared with the teacher's, above 0: larger is softer.
    """

    task: Annotated[
        str | dict[str, str] | None,
        option(
            "what is learnt, or a=binary,b=regression; inferred from the target",
            "TASK",
            reads="text",
            offer="tasks",
            listing=True,
            takes=str | Mapping[str, str] | None,
        ),
    ] = None
    loss: Annotated[
        Any,
        option(
            "mse, l1, huber, smooth_l1, cross_entropy, bce, or a function; a=mse,b=bce for several targets",
            "LOSS",
            reads="loss",
            offer="losses",
            takes=str | Callable[..., Any] | Mapping[str, Any],
        ),
    ] = "auto"
    loss_weights: Annotated[
        dict[str, float], option("weight of each target's loss: a=1,b=0.5", "TARGET=WEIGHT", reads="weights")
    ] = {}
    label_smoothing: Annotated[float | None, option("share of each label spread over all", "SHARE")] = None
    class_weights: Annotated[
        Any,
        option(
            "balanced, or a dict in a variable",
            "WEIGHTS",
            reads="text",
            offer=("balanced",),
            takes=str | Mapping[Any, float | str | Mapping[Any, float] | Sequence[float]] | Sequence[float] | None,
        ),
    ] = None
    metrics: MetricNames = ()
    monitor: Annotated[
        str | None,
        option("what chooses the best epoch: loss or a metric", "NAME", offer=("loss", *METRIC_NAMES)),
    ] = None
    teacher: Annotated[
        str | None,
        option("model whose answers are learnt too: NAME, NAME:3 or NAME@variant", "MODEL", offer="models"),
    ] = None
    distill_alpha: Annotated[float, option("share of the loss against the teacher's answers (0.5)", "SHARE")] = 0.5
    temperature: Annotated[float, option("how soft the teacher's probabilities are made (2)", "T")] = 2.0


class ModelSpec(Spec, frozen=True, kw_only=True):
    """What is trained.

    Attributes
    ----------
    model : Any
        ``"auto"``, an architecture's name, or a ``torch.nn.Module``.
    params : dict of str to Any
        Hyperparameters of a named architecture.
    source : str
        Python source that made a live module, kept with the model.
    outputs : {"logits", "probabilities", "values"} or None
        What the network's outputs are, which decides how they become answers; what the loss takes them for when None.
    freeze : tuple of str
        Patterns of parameters that stay as they are, with the statistics of their batch-norms.
    unfreeze : dict of str to int
        Epoch, counted from 1, from which on frozen parameters that match a pattern learn.
    probe : bool
        Whether the pretrained part of a network stays as it is, so that what it makes of each row is computed once.
    lora : int, str or None
        Rank of adapters that are trained beside the layers of a pretrained network, which stay as they are, and are
        added to them at the end; or ``"r=8,alpha=16"``.
    """

    model: Annotated[
        Any,
        option(
            "architecture by name, or a torch module in a variable", "MODEL", "--model", "-m", offer="architectures"
        ),
    ] = "auto"
    params: Annotated[
        dict[str, Any], option("hyperparameters of the architecture", "KEY=VALUE", "--set", offer="settings")
    ] = {}
    source: Annotated[str, option("Python source that made a live module", typed=False)] = ""
    outputs: Annotated[
        Literal["logits", "probabilities", "values"] | None,
        option("what the network's outputs are, where the loss does not show it", "KIND"),
    ] = None
    freeze: Annotated[tuple[str, ...], option("patterns of parameters that stay as they are", "PATTERN")] = ()
    unfreeze: Annotated[dict[str, int], option("what learns from an epoch on, as encoder.*@5", "PATTERN@EPOCH")] = {}
    probe: Annotated[bool, option("train what is behind a pretrained network, which is asked once a row")] = False
    lora: Annotated[
        int | str | None,
        option("train adapters beside a pretrained network's layers: r=8,alpha=16", "r=N", reads="text"),
    ] = None


class OptimizerSpec(Spec, frozen=True, kw_only=True):
    """How each step changes the weights, and from which random numbers.

    Attributes
    ----------
    optimizer : str or None
        Name in ``torch.optim``; the architecture's own when None.
    optimizer_params : dict of str to Any
        Further arguments of the optimizer.
    lr : float, "auto" or None
        The architecture's own when None; ``"auto"`` tries rising rates on a hundred steps that are undone, and
        takes the one at which the loss falls fastest (Smith 2017).
    weight_decay : float or None
        The architecture's own when None.
    schedule : str or None
        Learning-rate schedule: ``constant``, ``cosine``, ``linear``, ``one-cycle``, ``coslog4``, ``flat-cos`` or
        ``warm-cosine`` by the share of the training done; ``plateau`` by the ``monitor``; or a class of
        ``torch.optim.lr_scheduler``, which goes by epochs (``OneCycleLR`` and ``CyclicLR`` by steps).
    schedule_params : dict of str to Any
        Arguments of ``plateau`` or of that class.
    warmup : float
        Share of the training below 1, or a whole number of steps, in which the learning rate rises in a straight line
        before the schedule begins.
    lr_of : dict of str to float
        Learning rates of the parameters whose names match a pattern (``{"head.*": 1e-3}``); the last match counts.
    clip : float or None
        Largest norm of the gradient of all weights together; a larger one is scaled down to it.
    precision : {"fp32", "bf16", "fp16"} or None
        Arithmetic of training steps; weights and validation stay in fp32. When None, fp32; for a pretrained network
        bf16 where the device has instructions for it.
    ema : float or None
        Decay of an exponential moving average of the weights, 0 < decay < 1, which is then validated and published; 0
        for none, also where the architecture is usually trained with one.
    seed : int
        Seed of the split, the initial weights and the order of rows.
    """

    optimizer: Annotated[str | None, option("name in torch.optim", "NAME", offer=OPTIMIZERS)] = None
    optimizer_params: Annotated[
        dict[str, Any],
        option("further arguments of the optimizer", "KEY=VALUE", "--optimizer-set", offer="optimizer_arguments"),
    ] = {}
    lr: Annotated[float | Literal["auto"] | None, option("learning rate; auto finds one", "RATE")] = None
    weight_decay: Annotated[float | None, option("weight decay", "W")] = None
    schedule: Annotated[
        str | None,
        option("how the learning rate changes, or a class of torch.optim.lr_scheduler", "NAME", offer=SCHEDULES),
    ] = None
    schedule_params: Annotated[
        dict[str, Any],
        option("arguments of plateau or of that class", "KEY=VALUE", "--schedule-set", offer="schedule_arguments"),
    ] = {}
    warmup: Annotated[float, option("share of the training, or steps, of a rise before the schedule", "SHARE")] = 0.0
    lr_of: Annotated[dict[str, float], option("learning rates by pattern, as head.*=1e-3", "PATTERN=RATE")] = {}
    clip: Annotated[float | None, option("largest norm of the gradient", "NORM")] = None
    precision: Annotated[Literal["fp32", "bf16", "fp16"] | None, option("fp32, bf16 or fp16 arithmetic", "KIND")] = None
    ema: Annotated[float | None, option("decay of an average of the weights, which is kept", "DECAY")] = None
    seed: Annotated[int, option("seed of split, weights and order", "N")] = 0


class BudgetSpec(Spec, frozen=True, kw_only=True):
    """How long the training is, and how many rows a batch has.

    Attributes
    ----------
    epochs : int or None
        Most epochs.
    patience : int or None
        Epochs without a better ``monitor`` before training stops; 0 never stops early.
    batch_size : int, "auto" or None
        Rows of one batch; ``"auto"`` tries which is the largest that fits into memory and is no slower.
    accumulate : int
        Batches of one optimizer step; the gradient is that of one batch of all their rows. Layers with statistics of
        a batch still see each by itself.
    better_than : float or None
        Publish only if the best epoch's ``monitor`` is better than this; otherwise the result has version 0.
    """

    epochs: Annotated[int | None, option("most epochs", "N", "--epochs", "-e")] = None
    patience: Annotated[int | None, option("epochs without improvement before it stops; 0 never", "N")] = None
    batch_size: Annotated[int | Literal["auto"] | None, option("rows of one batch; auto finds how many fit", "N")] = (
        None
    )
    accumulate: Annotated[int, option("batches of one step", "N")] = 1
    better_than: float | None = None


class RunSpec(Spec, frozen=True, kw_only=True):
    """Where and how it runs, which does not change what is learnt.

    Attributes
    ----------
    device : str
        ``"auto"`` or a torch device.
    threads : int or None
        CPU threads, of each worker where there are several; chosen by the size of a step when None.
    workers : int
        Processes that share the rows of every step.
    shard : bool
        Whether each worker keeps only its share of weights, gradients and optimizer state between steps.
    loader_workers : int or None
        Processes that read the rows of a map-style torch ``Dataset``, 0 for this one; the rows are the same either
        way. 0 when None, or what ``fast`` finds.
    cache : str or None
        Disk that may keep what pictures and sounds hold once they are decoded, beside 512 MiB of memory for each
        column, so that later epochs do not decode them again: ``"2GB"``, ``"0"`` for none; 4 GB when None. It is given
        back at the end.
    compile : bool or None
        Compile several steps at a time while the training continues, and use them where a trial shows them right and
        faster; equal to plain steps in value, not in bits.
    fast : {"auto"} or None
        ``"auto"`` tries CPU threads, bf16 and loader workers on a few real steps, takes what is faster, and compiles
        steps where that pays. The trials leave nothing behind: with nothing chosen the training is as without it, to
        the bit.
    profile : bool
        Time the parts of the training, and show them.
    checkpoint_every : str or None
        ``"500"`` for every 500 optimizer steps, ``"30s"`` for every thirty seconds; rarely when None.
    resume : bool or str
        Resume from the newest checkpoint of this name, or of the job with this id. Whatever the request leaves out is
        as in the request that made it.
    sample : int
        Rows, held-out ones where there are any, that are kept as they came beside the version, to verify exports on;
        0 to 1,000.
    most_seconds : float or None
        Seconds after which it ends as one that is stopped, with its best epoch so far, counted from where it begins or
        is resumed; `CallSpec.budget` says it.
    encrypt : bool
        Encrypt the version, its exports, and the checkpoints on the way to it, by the key of ``MAAS_KEY``. Rows stay
        where they lie.
    """

    device: Annotated[str, option("auto, cpu, cuda, mps", "DEVICE", offer=("auto", "cpu", "cuda", "mps"))] = "auto"
    threads: Annotated[int | None, option("CPU threads, of each worker", "N")] = None
    workers: Annotated[int, option("processes that share the rows of every step", "N")] = 1
    shard: Annotated[bool, option("each worker keeps only its share of the weights")] = False
    loader_workers: Annotated[
        int | None, option("processes that read a torch Dataset; --fast auto finds how many", "N")
    ] = None
    cache: Annotated[
        str | None, option("disk that keeps decoded pictures and sounds for later epochs", "SIZE", offer=("2GB", "0"))
    ] = None
    compile: Annotated[bool | None, option("compile steps beside the training; used once they are faster")] = None
    fast: Annotated[
        Literal["auto"] | None, option("auto tries threads, bf16, loader workers, compiled steps", "auto")
    ] = None
    profile: Annotated[bool, option("show where the time of a step goes")] = False
    checkpoint_every: Annotated[str | None, option("500 counts steps, 30s seconds", "N", offer=("30s", "500"))] = None
    resume: Annotated[
        bool | str, option("resume from the newest checkpoint, or with the newest sweep", reads="switch")
    ] = False
    sample: Annotated[
        int, option("rows kept beside the version, to verify exports on: 1000, or fewer; 0 none", "N")
    ] = 1_000
    most_seconds: float | None = None
    encrypt: Annotated[bool, option("encrypt the version and its checkpoints with the key of MAAS_KEY")] = False


class Specs(msgspec.Struct, frozen=True, kw_only=True):
    """What was requested, in its parts.

    Attributes
    ----------
    name : str
        Name of the model.
    data : DataSpec
    model : ModelSpec
    task : TaskSpec
    optimizer : OptimizerSpec
    budget : BudgetSpec
    run : RunSpec
    """

    name: str
    data: DataSpec
    model: ModelSpec
    task: TaskSpec
    optimizer: OptimizerSpec
    budget: BudgetSpec
    run: RunSpec

    def having(self, part: str, **options: Any) -> Self:
        """The same with other options in one part.

        Parameters
        ----------
        part : str
            Name of the spec: ``"data"``, ``"task"``, ``"model"``, ``"optimizer"``, ``"budget"`` or ``"run"``.
        **options : Any
            Fields of that spec, with their new values.
        """
        return msgspec.structs.replace(self, **{part: msgspec.structs.replace(getattr(self, part), **options)})


class CallSpec(Spec, frozen=True, kw_only=True):
    """Options of a call beside the training's request.

    Attributes
    ----------
    background : bool
        Return a `Job` at once instead of waiting.
    callbacks : sequence of callable
        Functions of one event, called with each event of the run; one that returns ``"stop"`` stops it.
    track : sequence of str
        Where the run is written down: ``"tensorboard"``, ``"tensorboard=FOLDER"``, ``"mlflow"``, ``"mlflow=URI"``.
    sweep : str
        Parameters to search, ``"lr=1e-4..1e-1 log, hidden=[64, 128], dropout=0.0..0.5"``; the best trial's model is
        published. With ``resume``, the newest sweep continues until it has as many trials as ``trials`` says.
    trials : int
        Trainings of a sweep.
    race : bool
        Train several networks that fit the rows, the cheapest first, and publish the best. One that is worse than the
        best so far and has taken three times as long as that is dropped. A pretrained network that ``model`` names
        takes part.
    budget : float or str
        What a race may take, or one training: seconds, ``"90s"``, ``"5min"``, ``"1h"``. A training then ends as one
        that is stopped, with its best epoch so far, and can be resumed.
    to : str
        Where a copy of the new version goes: ``s3://bucket/prefix``, any other URL of fsspec, or a folder. It is found
        out beforehand whether that can be reached.
    """

    background: Annotated[bool, option("return a Job at once", "", "--background", "-b")] = False
    callbacks: Annotated[
        tuple[Any, ...],
        option(
            "functions called with every event",
            "FUNCTION",
            "--callback",
            reads="callback",
            many="+",
            offer="functions",
            takes=Sequence[Callback],
        ),
    ] = ()
    track: Annotated[
        tuple[str, ...],
        option(
            "tensorboard[=FOLDER], mlflow[=URI]",
            "WHERE",
            offer=("tensorboard", "mlflow"),
            takes=Sequence[str],
        ),
    ] = ()
    sweep: Annotated[str, option("values to search: lr=1e-4..1e-1 log, hidden=[64,128]", "SPACE")] = ""
    trials: Annotated[int, option("trainings of a sweep", "N")] = 20
    race: Annotated[bool, option("train several networks, the cheapest first, and publish the best")] = False
    budget: Annotated[
        float | str | None, option("what a race, or one training, may take: 5min", "TIME", offer=("1min", "5min"))
    ] = None
    to: Annotated[str, option("where a copy goes: s3://BUCKET/PREFIX, another URL, or a folder", "URL")] = ""


SPECS: tuple[type[Spec], ...] = (DataSpec, ModelSpec, TaskSpec, OptimizerSpec, BudgetSpec, RunSpec)
