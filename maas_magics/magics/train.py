"""`%train` and `%%train`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from maas_magics.api.errors import MaasError, ModelError, OptionError
from maas_magics.api.requests import SPLITS, TrainRequest, is_named_split
from maas_magics.api.specs import CallSpec
from maas_magics.api.verbs import VERBS
from maas_magics.magics.declared import options_of
from maas_magics.magics.options import Command
from maas_magics.magics.shell import Magic
from maas_magics.magics.words import Names

GROUPS = {
    "data": "data target text validation weights drop features feature max_bad augment inputs class_weights balance "
    "preprocess sample loader_workers cache csv stream",
    "network": "model params outputs freeze unfreeze probe lora",
    "training": "task pairs loss loss_weights teacher distill_alpha temperature optimizer optimizer_params lr "
    "weight_decay schedule schedule_params warmup lr_of epochs batch_size accumulate clip ema patience "
    "monitor metrics label_smoothing seed sweep trials race budget",
    "speed": "precision device threads workers shard compile fast profile",
    "service": "checkpoint_every resume encrypt to callbacks track background",
}
"""Options by the heading that they stand under in the help."""

COMMAND = Command(
    "train",
    VERBS["train"].summary,
    options_of(TrainRequest, CallSpec),
    example="%train penguins --data df --target species\n%train net --data X y --model net --loss mse --epochs 1000\n"
    '%train penguins --data df --target species --sweep "lr=1e-4..1e-1 log, dropout=0.0..0.5" --trials 20\n'
    "%train penguins --data df --target species --race --budget 5min",
    body="As a cell magic, the cell builds the network: it ends with an nn.Module, and finds `inputs` and\n"
    "`outputs`, the sizes of its first and last layer, ready to use.",
    groups=GROUPS,
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Train, show the live view, return a `TrainedModel` or a `Job`."""
    names = magic.names
    values = COMMAND.parse(line, names)
    if "sweep" not in values and "trials" in values:
        raise OptionError("--trials belongs to a sweep.", '--sweep "lr=1e-4..1e-1 log"')
    call = CallSpec(**{name: values.pop(name) for name in CallSpec.__struct_fields__ if name in values})
    many, resume = bool(call.sweep or call.race), values.get("resume", False)
    data, csv = values.pop("data", ()), values.get("csv")

    def read(table: Any) -> list[str]:
        return magic.session.columns_of(table, csv)

    if not data and (many or not resume):
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
    listed = [key for key in ("drop", "features", "pairs") if key in values]
    values |= {key: names.listed(values[key], values["data"], read) for key in listed}
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
    if many:
        values.pop("resume", None)
    return magic.session.train(TrainRequest(**values), call, live=True, resume=bool(many and resume))


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
        If the cell is not Python.
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
