"""What a teacher answers to the rows that another model learns from: asked once, before the first step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from maas_magics.api.errors import OptionError
from maas_magics.api.specs import Specs
from maas_magics.core.context import Context
from maas_magics.core.data.sources import open_source, typed
from maas_magics.core.inference.predictor import CHUNK, InSeveralPasses, Predictor
from maas_magics.core.tasks.base import Task
from maas_magics.core.training.checkpoint import Checkpoints

KEPT = "taught"
"""Name of the answers in a checkpoint: they are made once, also of a training that is resumed."""

LITTLE = 0.1
"""Share of the way from a constant's answers to the right ones, below which a teacher is doubted."""


def named_teacher(specs: Specs, context: Context) -> Specs:
    """Specs whose teacher is a version, whatever is published later.

    Raises
    ------
    MaasError
        If there is no such model, or it answers in several passes.
    """
    if specs.task.teacher is None:
        return specs
    return specs.having("task", teacher=_asked(specs.task.teacher, context).ref)


def taught_by(teacher: str, rows: pa.Table | None, task: Task, context: Context, pause: Callable[[], None]) -> Tensor:
    """Answers to the training rows, as a model of a task learns them.

    Parameters
    ----------
    teacher : str
        ``name:version``, or a variant of it.
    rows : pyarrow.Table or None
        Every column of the training rows but the target's; None where they are not in memory.
    task : Task
        What is learnt.
    context
    pause : callable
        Called between two chunks; may raise to end.

    Raises
    ------
    MaasError
        If it cannot answer them, or answers something else.
    """
    if context.checkpoints is not None:
        kept = Checkpoints(context.checkpoints).chosen_before().get(KEPT)
        if isinstance(kept, Tensor):  # those of other rows, or of another teacher, are refused with the checkpoint
            return kept
    if rows is None:
        raise no_rows()
    predictor = _asked(teacher, context)
    features, parts = predictor.processor.names, []
    if len(features) == 1 and rows.num_columns == 1:
        rows = rows.rename_columns(features)
    context.notify(f"{predictor.ref} answers the {len(rows):,} training rows.")
    for table in typed(open_source(rows), predictor.processor.texts).chunks(CHUNK):
        pause()
        parts.append(task.taught(predictor.decoded(predictor.processor.encode(table)), predictor.answers))
    return torch.from_numpy(np.concatenate(parts))


def knows_little(teacher: str, taught: Tensor, target: Tensor, task: Task) -> str:
    """A sentence where a teacher knows hardly more of the training rows than a constant does; else empty.

    Labels of another column may have the same names, and quantities none at all.

    Parameters
    ----------
    teacher : str
        Its name.
    taught : Tensor, shape (n, k)
        What `taught_by` made.
    target : Tensor, shape (n,) or (n, k)
        Encoded target of the same rows.
    task : Task
        What is learnt.
    """
    if task.one_label:
        known = task.class_index(target)
        right = (taught.argmax(1) == known).double()
        shares = [float(right[known == label].mean()) for label in set(known.tolist())]
        better = sum(shares) / len(shares) - 1 / len(shares)
        most = 1 - 1 / len(shares)
    elif task.numeric and taught.numel() == target.numel():
        rows = target.double().reshape(len(target), -1)
        most = float(rows.var(0, correction=0).mean())
        better = most - float((taught.double().reshape(rows.shape) - rows).square().mean())
    else:
        return ""
    if better >= LITTLE * most:
        return ""
    return (
        f"{teacher} answers the training rows hardly better than a constant: it may have learnt another target than "
        f"{', '.join(map(repr, task.names))}."
    )


def no_rows() -> OptionError:
    """That a teacher is asked for rows that it cannot be given."""
    return OptionError(
        "A teacher is asked all rows before the first step: they must be a table, or arrays, in memory.",
        "Give such rows, or drop --teacher.",
    )


def _asked(teacher: str, context: Context) -> Predictor:
    try:
        return context.loader.predictor(teacher)
    except InSeveralPasses as error:
        raise OptionError(f"{error.message.rstrip('.')}, and is no teacher.", "Drop --teacher.") from None
