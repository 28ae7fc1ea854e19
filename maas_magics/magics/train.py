"""`%train` and `%%train`."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from typing import Any

from maas_magics.api.errors import MaasError, ModelError, OptionError
from maas_magics.api.requests import SPLITS, TrainRequest, is_named_split
from maas_magics.magics import offers
from maas_magics.magics.common import CSV, DATA, METRIC_NAMES, METRICS
from maas_magics.magics.options import Command, Option, pair, real, text, typed, whole
from maas_magics.magics.shell import Magic
from maas_magics.magics.words import Names

TASKS = ("binary", "multiclass", "multilabel", "regression")
OPTIMIZERS = ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "LBFGS")
SCHEDULES = (
    "constant",
    "cosine",
    "linear",
    "one-cycle",
    "coslog4",
    "flat-cos",
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
LOSSES = ("mse", "l1", "huber", "smooth_l1", "cross_entropy", "bce")
PRECISIONS = ("fp32", "bf16", "fp16")


def rate_of(names: Names, word: str) -> tuple[str, float]:
    """``pattern=rate``."""
    pattern, equals, rate = word.rpartition("=")
    if not equals or not pattern:
        raise OptionError(f"{word!r} is no pattern=rate.", "For example: head.*=1e-3")
    return pattern, real(names, rate)


def real_or_auto(names: Names, word: str) -> float | str:
    """A number, or ``auto``."""
    return "auto" if word == "auto" else real(names, word)


def whole_or_auto(names: Names, word: str) -> int | str:
    """A whole number, or ``auto``."""
    return "auto" if word == "auto" else whole(names, word)


def epoch_of(names: Names, word: str) -> tuple[str, int]:
    """``pattern@epoch``."""
    pattern, at, epoch = word.rpartition("@")
    if not at or not pattern:
        raise OptionError(f"{word!r} is no pattern@epoch.", "For example: encoder.*@5")
    return pattern, whole(names, epoch)


def callback(names: Names, word: str) -> Any:
    """A function, or an object that can be called, by an expression of the notebook.

    Raises
    ------
    OptionError
        If it cannot be called.
    """
    found = names.evaluate(word)
    if not callable(found):
        raise OptionError(f"{word!r} is of type {type(found).__name__}, not a function.", "def callback(event): …")
    return found


GROUPS = {
    "data": "data csv target features drop weights validation sample class_weights balance preprocess stream "
    "loader_workers",
    "network": "model set freeze unfreeze outputs",
    "training": "task loss label_smoothing optimizer optimizer_set lr weight_decay schedule schedule_set warmup lr_of "
    "epochs batch_size accumulate clip ema patience monitor metrics seed sweep trials",
    "speed": "device threads workers shard precision compile fast profile",
    "service": "background checkpoint_every resume callback track",
}
"""Options by the heading that they stand under in the help."""

COMMAND = Command(
    "train",
    "Fit a model to data, live, and publish it as a new version.",
    (
        Option(("name",), "name of the model", metavar="NAME", offer=offers.models),
        dataclasses.replace(DATA, required=False),
        Option(
            ("--target", "-t"),
            "column to learn, several as a,b, or an array",
            typed,
            "COLUMN",
            offer=offers.columns,
            listed=True,
        ),
        Option(
            ("--model", "-m"),
            "architecture by name, or a torch module in a variable",
            typed,
            "MODEL",
            offer=offers.architectures,
        ),
        Option(("--set",), "hyperparameters of the architecture", pair, "KEY=VALUE", "+", offer=offers.settings),
        Option(("--task",), "what is learnt; inferred from the target", choices=TASKS, metavar="TASK"),
        Option(
            ("--loss",),
            "mse, l1, huber, smooth_l1, cross_entropy, bce, or a function",
            lambda n, w: n.choice(w),
            "LOSS",
            offer=lambda typed: [*LOSSES, *offers.functions(typed)],
        ),
        Option(
            ("--outputs",),
            "what the network's outputs are, where the loss does not tell",
            choices=("logits", "probabilities", "values"),
            metavar="KIND",
        ),
        Option(("--optimizer",), "name in torch.optim", text, "NAME", offer=OPTIMIZERS),
        Option(
            ("--optimizer-set",),
            "further arguments of the optimizer",
            pair,
            "KEY=VALUE",
            "+",
            offer=offers.arguments("--optimizer", "torch.optim"),
        ),
        Option(
            ("--lr",),
            "learning rate; auto finds one",
            real_or_auto,
            "RATE",
            offer=offers.or_auto(offers.numbers),
        ),
        Option(("--weight-decay",), "weight decay", real, "W"),
        Option(
            ("--schedule",),
            "how the learning rate changes, or a class of torch.optim.lr_scheduler",
            text,
            "NAME",
            offer=SCHEDULES,
        ),
        Option(
            ("--schedule-set",),
            "arguments of plateau or of that class",
            pair,
            "KEY=VALUE",
            "+",
            offer=offers.arguments("--schedule", "torch.optim.lr_scheduler"),
        ),
        Option(("--warmup",), "share of the training, or steps, of a rise before the schedule", real, "SHARE"),
        Option(("--lr-of",), "learning rates by pattern, as head.*=1e-3", rate_of, "PATTERN=RATE", "+"),
        Option(("--freeze",), "patterns of parameters that stay as they are", text, "PATTERN", "+"),
        Option(("--unfreeze",), "what learns from an epoch on, as encoder.*@5", epoch_of, "PATTERN@EPOCH", "+"),
        Option(("--epochs", "-e"), "most epochs", whole, "N"),
        Option(
            ("--batch-size",),
            "rows of one batch; auto finds how many fit",
            whole_or_auto,
            "N",
            offer=offers.or_auto(offers.whole_numbers),
        ),
        Option(("--accumulate",), "batches of one step", whole, "N"),
        Option(("--clip",), "largest norm of the gradient", real, "NORM"),
        Option(("--precision",), "fp32, bf16 or fp16 arithmetic", choices=PRECISIONS, metavar="KIND"),
        Option(("--ema",), "decay of an average of the weights, which is kept", real, "DECAY"),
        Option(("--patience",), "epochs without a better figure before it stops; 0 never", whole, "N"),
        Option(
            ("--monitor",),
            "figure that chooses the best epoch: loss or a metric",
            text,
            "NAME",
            offer=("loss", *METRIC_NAMES),
        ),
        Option(
            ("--validation",),
            "share held out, time:COLUMN, group:COLUMN, or another table",
            typed,
            "SHARE",
            offer=offers.splits,
        ),
        Option(("--weights",), "column with the weight of each row", text, "COLUMN", offer=offers.columns_only),
        Option(
            ("--drop",),
            "columns that are no features, as a,b",
            typed,
            "COLUMNS",
            offer=offers.columns_only,
            listed=True,
        ),
        Option(("--features",), "the only features, as a,b", typed, "COLUMNS", offer=offers.columns_only, listed=True),
        METRICS,
        Option(("--class-weights",), "balanced, or a dict in a variable", text, "WEIGHTS", offer=("balanced",)),
        Option(("--balance",), "draw the rows with each label equally likely", switch=True),
        Option(("--label-smoothing",), "share of each label spread over all", real, "SHARE"),
        Option(
            ("--preprocess",), "none hands numbers to the module as they are", choices=("auto", "none"), metavar="HOW"
        ),
        Option(("--seed",), "seed of split, weights and order", whole, "N"),
        Option(("--device",), "auto, cpu, cuda, mps", text, "DEVICE", offer=("auto", "cpu", "cuda", "mps")),
        Option(("--threads",), "CPU threads, of each worker", whole, "N"),
        Option(("--sample",), "rows kept beside the version, to verify exports on: 1000, or fewer; 0 none", whole, "N"),
        Option(("--workers",), "processes that share the rows of every step", whole, "N"),
        Option(("--shard",), "each worker keeps only its share of the weights", switch=True),
        Option(("--loader-workers",), "processes that read a torch Dataset; --fast auto finds how many", whole, "N"),
        Option(("--compile",), "compile steps beside the training; used once they are faster", switch=True),
        Option(
            ("--fast",),
            "auto tries threads, bf16, loader workers, compiled steps",
            choices=("auto",),
            metavar="auto",
        ),
        Option(("--profile",), "show where the time of a step goes", switch=True),
        Option(("--checkpoint-every",), "500 counts steps, 30s seconds", text, "N", offer=("30s", "500")),
        Option(("--resume",), "go on from the newest checkpoint, or with the newest sweep", switch=True),
        CSV,
        Option(("--stream",), "read the file's rows from disk while training, however small it is", switch=True),
        Option(("--callback",), "functions told every event", callback, "FUNCTION", "+", offer=offers.functions),
        Option(("--track",), "tensorboard[=FOLDER], mlflow[=URI]", text, "WHERE", "+", offer=("tensorboard", "mlflow")),
        Option(("--sweep",), "values to search: lr=1e-4..1e-1 log, hidden=[64,128]", text, "SPACE"),
        Option(("--trials",), "trainings of a sweep", whole, "N"),
        Option(("--background", "-b"), "return a Job at once", switch=True),
    ),
    example="%train penguins --data df --target species\n%train net --data X y --model net --loss mse --epochs 1000\n"
    '%train penguins --data df --target species --sweep "lr=1e-4..1e-1 log, dropout=0.0..0.5" --trials 20',
    body="As a cell magic, the cell builds the network: it ends with an nn.Module, and finds `inputs` and\n"
    "`outputs`, the sizes of its first and last layer, ready to use.",
    groups=GROUPS,
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Train, show the live view, return a `TrainedModel` or a `Job`."""
    names = magic.names
    values = COMMAND.parse(line, names)
    background = values.pop("background", False)
    sweep = values.pop("sweep", None)
    if sweep is None and "trials" in values:
        raise OptionError("--trials belongs to a sweep.", '--sweep "lr=1e-4..1e-1 log"')
    trials, resume = values.pop("trials", 20), values.get("resume", False)
    callbacks, track = values.pop("callback", ()), values.pop("track", ())
    data = values.pop("data", ())
    csv = values["csv"] = " ".join(values["csv"]) if "csv" in values else None

    def read(table: Any) -> list[str]:
        return magic.session.columns_of(table, csv)

    if not data and (sweep is not None or not resume):
        raise OptionError("%train needs --data DATA.", "%train NAME --data df --target column")
    if len(data) > 2 or (len(data) == 2 and "target" in values):
        raise OptionError(
            f"--data takes one table, or two arrays X y; {len(data)} words were given.", "--data df --target column"
        )
    if len(data) == 2:
        values["data"], values["target"] = data
    else:
        values["data"] = data[0] if data else None
        if "target" in values:
            values["target"] = names.target(values["target"], values["data"], read)
    values |= {key: names.listed(values[key], values["data"], read) for key in ("drop", "features") if key in values}
    if "model" in values:
        values["model"] = names.module(values["model"])
    if cell is not None:
        if "model" in values:
            raise OptionError("The cell builds the network; --model names another one.", "Drop --model, or use %train.")
        values |= {"model": factory(magic, cell), "source": cell}
    if "validation" in values:
        values["validation"] = _validation(names, values["validation"])
    weights = values.get("class_weights")
    if weights not in (None, "balanced"):
        values["class_weights"] = names.evaluate(weights)
    for key, field in (
        ("set", "params"),
        ("optimizer_set", "optimizer_params"),
        ("schedule_set", "schedule_params"),
        ("lr_of", "lr_of"),
        ("unfreeze", "unfreeze"),
    ):
        if key in values:
            values[field] = dict(values.pop(key))
    if "freeze" in values:
        values["freeze"] = tuple(values["freeze"])
    if sweep is not None:
        values.pop("resume", None)
    request = TrainRequest(**values)
    if sweep is None:
        return magic.session.run(request, background=background, live=True, callbacks=callbacks, track=track)
    return magic.session.sweep(
        request,
        sweep,
        trials=trials,
        resume=resume,
        background=background,
        callbacks=callbacks,
        track=track,
    )


def _validation(names: Names, word: str) -> Any:
    if is_named_split(word):
        return str(word)
    try:
        return float(word)
    except ValueError:
        kind, colon, column = word.partition(":")
        if colon and kind.isidentifier() and column and not column.startswith(("/", "\\")):
            raise OptionError(
                f"--validation: there is no split {kind!r}.", f"{' or '.join(f'{one}:{column}' for one in SPLITS)}"
            ) from None
        return names.data(word)


def _targets(assignment: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return assignment.targets if isinstance(assignment, ast.Assign) else [assignment.target]


def factory(magic: Magic, cell: str) -> Callable[[int, int], Any]:
    """The cell as a function ``(inputs, outputs) -> module``; what it defines stays in the notebook.

    Raises
    ------
    ModelError
        If the cell is no Python.
    """
    try:
        tree = ast.parse(magic.shell.transform_cell(cell))
    except SyntaxError as error:
        raise ModelError(f"The cell cannot be read: {error.msg}, line {error.lineno}.") from None
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        name = ""
        value = compile(ast.Expression(last.value), "<%%train>", "eval", dont_inherit=True)
        tree.body.pop()
    elif isinstance(last, (ast.Assign, ast.AnnAssign)) and isinstance(target := _targets(last)[0], ast.Name):
        name, value = target.id, None
    else:
        raise ModelError("The cell does not end with a network.", "Make its last line the module, or name = module.")
    body = compile(tree, "<%%train>", "exec", dont_inherit=True)
    # In a function, what the cell defines stays there.
    space = dict(magic.scope.variables) if magic.scope.inside else magic.shell.user_ns

    def build(inputs: int, outputs: int) -> Any:
        before = {key: space[key] for key in ("inputs", "outputs") if key in space}
        space.update(inputs=inputs, outputs=outputs)
        try:
            exec(body, space)
            return space[name] if value is None else eval(value, space)
        except MaasError:
            raise
        except Exception as error:
            raise ModelError(f"The cell fails: {type(error).__name__}: {error}") from error
        finally:
            for key in ("inputs", "outputs"):
                if type(space.get(key)) is int:
                    del space[key]
            space.update(before)

    return build
