"""What the state of a training was made of: one that continues must be made of the same."""

from __future__ import annotations

from typing import Any

from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.training.specs import Resolved

MAY_CHANGE = ("lr", "epochs", "patience", "better_than")
"""Options that may change when a training continues, besides where and how it runs."""

TOGETHER = {
    "seed": "seed",
    "table": "data target validation weights drop features csv stream",
    "network": "model params source",
    "loss": "loss label_smoothing class_weights",
    "optimizer": "optimizer weight_decay optimizer_params",
    "figure to watch": "monitor",
    "schedule": "schedule schedule_params",
    "precision": "precision",
    "average of the weights": "ema",
    "batch size": "batch_size accumulate",
}
"""Options that count by what they came to, by the name of what that is; any other counts by itself."""


def fingerprint(
    said: Resolved, prepared: Prepared, title: str, parameters: int, size: str, learns: bool = False
) -> dict[str, str]:
    """Every option of every spec but `run`, as text by the name of what it is about.

    Those of `TOGETHER` are written as version 0.1 wrote them, whose checkpoints hold no others.

    Parameters
    ----------
    said, prepared
    title : str
        Name of the architecture, or of the module's class.
    parameters : int
        Weights that learn.
    size : str
        Rows of a step.
    learns : bool
        Whether the network learns in a way of its own, in which no other rate continues what was begun.
    """
    task, optimizer = said.task, said.optimizer
    smoothing = None if "label_smoothing" in said.usual else task.label_smoothing
    loss = task.loss if isinstance(task.loss, str) else _text(task.loss)
    together = {
        "seed": str(optimizer.seed),
        "table": prepared.digest,
        "network": f"{title}, {parameters} parameters {dict(said.model.params)}",
        "loss": f"{loss} {smoothing} {task.class_weights}",
        "optimizer": f"{(optimizer.optimizer, optimizer.weight_decay, dict(optimizer.optimizer_params))}",
        "figure to watch": task.monitor,
        "schedule": f"{optimizer.schedule} {dict(optimizer.schedule_params)}",
        "precision": optimizer.precision,
        "average of the weights": f"{optimizer.ema}",
        "batch size": size,
    }
    answers = prepared.answers
    alone: dict[str, str] = {"task": answers.description if answers.parts else answers.task}
    left_out = {*MAY_CHANGE, *alone, *" ".join(TOGETHER.values()).split()}
    for spec in (said.data, said.model, task, optimizer, said.budget):
        alone |= {
            name.replace("_", " "): _text(getattr(spec, name))
            for name in spec.__struct_fields__
            if name not in left_out
        }
    if learns:
        alone["learning rate"] = str(optimizer.lr)  # all that was learnt is learnt again, from the first row on
    return together | alone


def architecture_of(marks: dict[str, str]) -> str:
    """Name of the architecture, or of the module's class, that a state was made of, by the marks in it."""
    return marks.get("network", "").partition(",")[0]


def _text(value: Any) -> str:
    """A value as text, the same however it came; a live object by its name."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(value[key])}' for key in sorted(value, key=str))}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    if value is None or isinstance(value, (str, int, float, bool)):
        return str(value)
    return str(getattr(value, "__name__", type(value).__name__))
