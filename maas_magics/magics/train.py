"""`%train` and `%%train`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from maas_magics.api.errors import MaasError, ModelError, OptionError
from maas_magics.api.requests import TrainRequest
from maas_magics.magics import offers
from maas_magics.magics.common import DATA, METRIC_NAMES, METRICS
from maas_magics.magics.options import Command, Option, pair, real, text, whole
from maas_magics.magics.shell import Magic
from maas_magics.magics.words import Names

TASKS = ("binary", "multiclass", "multilabel", "regression")
OPTIMIZERS = ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "LBFGS")
SCHEDULES = ("constant", "cosine", "linear", "one-cycle", "coslog4", "flat-cos")

COMMAND = Command(
    "train",
    "Fit a model to data, live, and publish it as a new version.",
    (
        Option(("name",), "name of the model", metavar="NAME", offer=offers.models),
        DATA,
        Option(
            ("--target", "-t"), "column to learn, several as a,b, or an array", text, "COLUMN", offer=offers.columns
        ),
        Option(
            ("--model", "-m"),
            "architecture by name, or a torch module in a variable",
            text,
            "MODEL",
            offer=offers.architectures,
        ),
        Option(("--set",), "hyperparameters of the architecture", pair, "KEY=VALUE", "+"),
        Option(("--task",), "what is learnt; inferred from the target", choices=TASKS, metavar="TASK"),
        Option(
            ("--loss",),
            "mse, l1, huber, smooth_l1, cross_entropy, bce, or a function",
            lambda n, w: n.choice(w),
            "LOSS",
            offer=("mse", "l1", "huber", "smooth_l1", "cross_entropy", "bce"),
        ),
        Option(("--optimizer",), "name in torch.optim", text, "NAME", offer=OPTIMIZERS),
        Option(("--optimizer-set",), "further arguments of the optimizer", pair, "KEY=VALUE", "+"),
        Option(("--lr",), "learning rate", real, "RATE"),
        Option(("--weight-decay",), "weight decay", real, "W"),
        Option(("--schedule",), "how the learning rate changes", choices=SCHEDULES, metavar="NAME"),
        Option(("--epochs", "-e"), "most epochs", whole, "N"),
        Option(("--batch-size",), "rows of one step", whole, "N"),
        Option(("--patience",), "epochs without a better figure before it stops; 0 never", whole, "N"),
        Option(
            ("--monitor",),
            "figure that chooses the best epoch: loss or a metric",
            text,
            "NAME",
            offer=("loss", *METRIC_NAMES),
        ),
        Option(("--validation",), "share of rows held out, or another table", text, "SHARE", offer=offers.tables),
        METRICS,
        Option(("--class-weights",), "balanced, or a dict in a variable", text, "WEIGHTS", offer=("balanced",)),
        Option(("--label-smoothing",), "share of each label spread over all", real, "SHARE"),
        Option(
            ("--preprocess",), "none hands numbers to the module as they are", choices=("auto", "none"), metavar="HOW"
        ),
        Option(("--seed",), "seed of split, weights and order", whole, "N"),
        Option(("--device",), "auto, cpu, cuda, mps", text, "DEVICE", offer=("auto", "cpu", "cuda", "mps")),
        Option(("--threads",), "CPU threads, of each worker", whole, "N"),
        Option(("--workers",), "processes that share the rows of every step", whole, "N"),
        Option(("--shard",), "each worker keeps only its share of the weights", switch=True),
        Option(("--background", "-b"), "return a Job at once", switch=True),
    ),
    example="%train penguins --data df --target species\n%train net --data X y --model net --loss mse --epochs 1000",
    body="As a cell magic, the cell builds the network: it ends with an nn.Module, and finds `inputs` and\n"
    "`outputs`, the sizes of its first and last layer, ready to use.",
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Train, show the live view, return a `TrainedModel` or a `Job`."""
    names = magic.names
    values = COMMAND.parse(line, names)
    background = values.pop("background", False)
    data = values.pop("data")
    if len(data) > 2 or (len(data) == 2 and "target" in values):
        raise OptionError(
            f"--data takes one table, or two arrays X y; {len(data)} words were given.", "--data df --target column"
        )
    if len(data) == 2:
        values["data"], values["target"] = data
    else:
        values["data"] = data[0]
        if "target" in values:
            values["target"] = names.target(values["target"], data[0])
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
    for key, field in (("set", "params"), ("optimizer_set", "optimizer_params")):
        if key in values:
            values[field] = dict(values.pop(key))
    return magic.session.run(TrainRequest(**values), background=background, live=True)


def _validation(names: Names, word: str) -> Any:
    try:
        return float(word)
    except ValueError:
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

    def build(inputs: int, outputs: int) -> Any:
        space = magic.shell.user_ns
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
