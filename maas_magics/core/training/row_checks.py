"""What was requested beside the rows, the target and the network that there are: refused before the first step."""

from __future__ import annotations

import torch

from maas_magics.api.errors import OptionError
from maas_magics.api.specs import Specs, TaskSpec
from maas_magics.core.architectures import Architecture, architectures
from maas_magics.core.batches.lazy import Lazy
from maas_magics.core.batches.training_rows import TrainingRows
from maas_magics.core.losses.heads import is_own
from maas_magics.core.tasks.base import Task
from maas_magics.core.training.specs import Resolved


def check_labels(asked: TaskSpec, answers: Task) -> None:
    """Raise for options about labels where there are no labels, or where a loss of the user's own ignores them.

    Raises
    ------
    OptionError
    """
    if asked.label_smoothing and answers.numeric:
        raise OptionError("Label smoothing is for labels; the task is regression.", "Drop --label-smoothing.")
    if is_own(asked.loss) and (asked.label_smoothing or asked.class_weights is not None):
        raise OptionError(
            "A loss of your own is taken as it is, without class weights or label smoothing.", "Put them into the loss."
        )


def check_workers(workers: int, device: torch.device, rows: int, *, found: bool) -> None:
    """Raise where there are too many workers for a step, or for the devices.

    Parameters
    ----------
    workers : int
    device : torch.device
    rows : int
        Of a step.
    found : bool
        Whether the size of a batch is found by trying.

    Raises
    ------
    OptionError
    """
    if workers == 1:
        return
    if workers > rows:
        raise OptionError(f"A step has {rows} rows, too few for {workers} workers.", f"--workers {rows}")
    if found and device.type != "cpu":
        raise OptionError(
            "Workers on GPUs cannot search a batch size: only one process can.",
            "--batch-size 64, or --workers 1.",
        )
    if device.type not in ("cpu", "cuda"):
        raise OptionError(f"Workers cannot share the device {str(device)!r}.", "--device cpu, or --workers 1")
    there = torch.cuda.device_count()
    if device.type == "cuda" and not (device == torch.device("cuda") and workers <= there):
        raise OptionError(
            f"Each worker takes a GPU of its own, the first {workers}; there are {there}.",
            f"--device cuda --workers {there}",
        )


def check_rows(said: Resolved, specs: Specs, found: TrainingRows, device: torch.device) -> None:
    """Raise for what does not go with the rows that there are, or with how they are read.

    Parameters
    ----------
    said : Resolved
    specs : Specs
        As they were requested.
    found : TrainingRows
    device : torch.device

    Raises
    ------
    OptionError
    """
    workers, size, finds = specs.run.workers, said.budget.batch_size, said.find_batch_size
    rows = found.rows if finds else min(size, found.rows)
    if finds and isinstance(found.stream, Lazy):
        raise OptionError("A size of batches is found on rows that are encoded at once.", "--batch-size 64")
    if isinstance(specs.model.model, str) and architectures.get(found.chosen).learns:
        check_learns(specs, rows, found.rows, in_memory=found.stream is None)
    if workers > 1 and found.stream is not None:
        raise OptionError(found.stream.why_one_process, "--workers 1")
    check_workers(workers, device, rows, found=finds)
    if specs.data.balance and found.stream is not None:
        raise OptionError(found.stream.why_in_order, "--class-weights balanced")


def check_heads(model: str, architecture: Architecture, answers: Task) -> None:
    """Refuse several targets of a network by name that answers but one, or one of them that is not of a row."""
    if not answers.parts:
        return
    if architecture.learns or architecture.of_pixels:
        raise OptionError(f"{model} answers one target.", "--model auto, or a model for each target.")
    for name, head in zip(answers.names, answers.parts, strict=True):
        if head.of_words or head.axes:
            raise OptionError(
                f"The target {name!r} has several answers a row; beside others a network by name gives one.",
                "A model for each target, or a module of your own.",
            )


def check_learns(specs: Specs, size: int, rows: int, *, in_memory: bool) -> None:
    """Raise for options of steps, where a network learns in a way of its own, from all rows at once.

    Parameters
    ----------
    specs : Specs
    size : int
        Rows of a batch.
    rows : int
        That train.
    in_memory : bool
        Whether they are there at once.

    Raises
    ------
    OptionError
    """
    model, loss = specs.model.model, specs.task.loss
    wrong = {
        "rows that are read from disk": not in_memory,
        "--batch-size": size < rows,
        "--workers": specs.run.workers > 1,
        "--fast": specs.run.fast is not None,
        "--compile": bool(specs.run.compile),
        "--accumulate": specs.budget.accumulate > 1,
        "--lr auto": specs.optimizer.lr == "auto",
        "a rate of 0": specs.optimizer.lr == 0,
        "--lr-of": bool(specs.optimizer.lr_of),
        "--optimizer": specs.optimizer.optimizer is not None,
        "--schedule": specs.optimizer.schedule not in (None, "constant"),
        "--warmup": bool(specs.optimizer.warmup),
        "--weight-decay": bool(specs.optimizer.weight_decay),
        "--clip": specs.optimizer.clip is not None,
        "--precision": specs.optimizer.precision not in (None, "fp32"),
        "--ema": bool(specs.optimizer.ema),
        "--batch-size auto": specs.budget.batch_size == "auto",
        "--profile": specs.run.profile,
        "--balance": specs.data.balance,
        "--label-smoothing": bool(specs.task.label_smoothing),
        "--teacher": specs.task.teacher is not None,
        "a loss of its own": loss not in ("auto", "mse", "cross_entropy", "bce"),
    }
    found = next((name for name, given in wrong.items() if given), "")
    if found:
        hint = "--class-weights balanced" if found == "--balance" else "Drop it, or choose another --model."
        raise OptionError(f"{model} learns from all rows at once, in a way of its own, without {found}.", hint)
