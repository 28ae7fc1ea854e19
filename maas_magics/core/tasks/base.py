"""A task: the fitted target, how it becomes numbers to learn, and how outputs become answers again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import msgspec
import numpy as np

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import Label, names_of, typed
from maas_magics.core.data.running import RunningStatistics

if TYPE_CHECKING:
    from torch import Tensor, nn

TaskName: TypeAlias = str
"""Name of a kind of task, as it is registered."""

Link = Literal["", "identity", "sigmoid", "softmax", "exp"]
"""What turns outputs into answers; empty for what the task has: a sigmoid, a softmax, nothing for quantities."""

Family = Literal["quantities", "labels", "classes", "choice"]
"""What a loss is for, where the task depends on the target as well: numbers; yes or no, once or several times; one of
several classes, each with an output; or one label, of two with one output."""

Decision = Literal["", "likeliest", "each"]
"""How decoded outputs become labels: not at all, the likeliest of several, or each by itself at one half."""


class Task(msgspec.Struct, frozen=True, tag_field="task"):
    """The fitted target, and what is known of it.

    A kind of task is one class in a file of its own; nothing outside this room compares names of tasks, so that another
    package may bring one: see `maas_magics.core.tasks`.

    Attributes
    ----------
    names : tuple of str
        Column names; ``("y",)`` for an unnamed array.
    classes : tuple of Label
        Labels in the order of the probabilities; empty for quantities, (False, True) for several labels a row.
    center, scale : tuple of float
        Quantities: mean and standard deviation of each training target, or 0 and 1.
    flat : bool
        Whether the target is one value a row rather than a row of values.
    low, high : tuple of float
        Quantities: range that predictions are kept in; empty for none.
    link : Link
        How outputs become answers: what the loss takes them for.
    shape : tuple of int or None
        Quantities: numbers of a row's answer, where the network gives other ones than the target has, as quantiles.
    kind : str
        What the labels are; see `maas_magics.core.data.labels`.
    usual : tuple of float
        Mean of each quantity, or share of each label, in the training rows; empty where they were not counted.
    axes : tuple of int
        Shape of one row's target where it has several axes; it is encoded in one, (n, k).
    """

    names: tuple[str, ...]
    classes: tuple[Label, ...] = ()
    center: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    flat: bool = True
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    link: Link = ""
    shape: tuple[int, ...] | None = None
    kind: str = ""
    usual: tuple[float, ...] = ()
    axes: tuple[int, ...] = ()

    task: ClassVar[str]
    """Name of the kind of task."""
    usual_link: ClassVar[Link]
    """What turns the outputs of most losses into answers."""
    numeric: ClassVar[bool] = False
    """Whether answers are quantities rather than labels."""
    exclusive: ClassVar[bool] = False
    """Whether each class has an output, of which one is right."""
    one_label: ClassVar[bool] = False
    """Whether a row has one label."""
    usual_monitor: ClassVar[str] = "loss"
    """The metric by which networks over texts from scratch choose their best epoch."""
    of_words: ClassVar[bool] = False
    """Whether each word of a row has an answer."""
    of_pairs: ClassVar[bool] = False
    """Whether rows are pairs of values that one network makes vectors of."""
    writes: ClassVar[bool] = False
    """Whether an answer is a text, of tokens that a network wrote."""
    streams: ClassVar[bool] = False
    """Whether the answer to one row may be had token by token."""
    runtime: ClassVar[str] = ""
    """Runtime that answers in several passes, one for each token; empty where one pass answers."""
    loop: ClassVar[str] = ""
    """Lines of Python that ask an exported file pass after pass, of its ``session`` and the ``inputs`` of some rows."""
    unexported: ClassVar[str] = ""
    """Why no file of a graph answers as the network does; empty where one does."""
    decision: ClassVar[Decision]
    usual_metrics: ClassVar[tuple[str, ...]]
    metric_example: ClassVar[str]
    """Classes of torchmetrics that fit the task, for a hint."""

    # --- fitted to a target ---

    @classmethod
    def fit(cls, values: Array, names: tuple[str, ...], *, standardise: bool, ignored: int | None = None) -> Task:
        """Fit a task to a target.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, ...)
            Without missing values.
        names : tuple of str
            Of its columns, one for each number of a row.
        standardise : bool
            Whether quantities are learnt in units of their standard deviation.
        ignored : int, optional
            Label of positions that the loss ignores.

        Raises
        ------
        DataError
            If the values are not a target of this kind.
        """
        raise NotImplementedError

    @classmethod
    def fit_batch(cls, target: Tensor, outputs: Callable[[], Tensor], classes: Sequence[object] | None) -> Task:
        """Fit a task to a batch of a loader or a dataset, all that is known of its target.

        Parameters
        ----------
        target : Tensor, shape (n,) or (n, ...)
            The target of the batch, as the loader or dataset gives it.
        outputs : callable
            Runs the network on the batch, and returns its outputs.
        classes : sequence, optional
            What the dataset calls its classes.

        Raises
        ------
        OptionError
            If the task is not for rows that come in batches.
        """
        raise OptionError(f"Rows of a loader or a dataset are not for the task {cls.task}.", "Give arrays or a table.")

    def of_network(self, net: nn.Module) -> Task:
        """The same with what only the network that learns it shows.

        Parameters
        ----------
        net : nn.Module
            An architecture's, as it was built.
        """
        return self

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Self:
        """The task of plain values that were written down; raises `msgspec.ValidationError`.

        Parameters
        ----------
        saved : mapping of str to Any
            Fields of the task, as `msgspec.to_builtins` wrote them.
        """
        return msgspec.convert(saved, cls)

    # --- the target, without torch ---

    @property
    def decoding(self) -> Link:
        """How outputs become answers."""
        return self.link or self.usual_link

    @property
    def description(self) -> str:
        """The task in a word or two."""
        return self.task

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that are taken where none is requested."""
        return self.usual_metrics if self.shape is None else ()

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one row's quantities; labels have none."""
        return ()

    @property
    def outputs(self) -> int:
        """How many numbers the network puts out for a row."""
        raise NotImplementedError

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the probabilities' columns."""
        return names_of(self.label_array)

    @property
    def label_array(self) -> Array:
        """Labels as they came, as an array that a class index picks from."""
        return typed(self.classes, self.kind)

    @property
    def standardised(self) -> bool:
        """Whether quantities are learnt in other units than those of the target."""
        return any(self.center) or any(scale != 1 for scale in self.scale)

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Outputs of an exported model."""
        raise NotImplementedError

    def encode(self, values: Array) -> Array:
        """Target of some rows as the loss takes it.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)
            The target as it came.

        Returns
        -------
        ndarray
            Of type int64 (n,) for one label of several, else float32 (n, outputs); quantities standardised.

        Raises
        ------
        DataError
            For a label the model was not trained on, or a missing value.
        """
        raise NotImplementedError

    def known(self, values: Array) -> Array:
        """Target of some rows, as they came, as metrics take it; see `truth`.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)
            The target as it came.
        """
        raise NotImplementedError

    # --- several heads, and one among them ---

    @property
    def parts(self) -> tuple[Task, ...]:
        """The task of each head, where there are several; ``names`` are then those of the heads."""
        return ()

    @property
    def part_weights(self) -> tuple[float, ...]:
        """Weight of each head's loss in their sum."""
        return (1.0,) * len(self.parts)

    @property
    def part_specs(self) -> tuple[tuple[TensorSpec, ...], ...]:
        """Outputs of an exported model, by head; the last of each is its decoded answer."""
        return ()

    def outputs_of(self, outputs: Tensor) -> list[Tensor]:
        """Outputs of each head, (n, numbers).

        Parameters
        ----------
        outputs : Tensor, shape (n, numbers)
            Those of all heads, side by side.
        """
        return [outputs]

    def targets_of(self, target: Tensor) -> list[Tensor]:
        """Encoded target of each head as its own loss takes it.

        Parameters
        ----------
        target : Tensor, shape (n, numbers)
            Those of all heads, side by side.
        """
        return [target]

    def answers_of(self, decoded: Array) -> list[Array]:
        """Decoded answers of each head, in its own shape and type.

        Parameters
        ----------
        decoded : ndarray, shape (n, numbers)
            Those of all heads, side by side.
        """
        return [decoded]

    def with_parts(self, parts: Sequence[Task], widths: Sequence[int], weights: Sequence[float]) -> Self:
        """The same with the heads that a network turns out to have.

        Parameters
        ----------
        parts : sequence of Task
            The task of each.
        widths : sequence of int
            Numbers of a row that the network puts out for each.
        weights : sequence of float
            Weight of each head's loss in their sum.
        """
        raise NotImplementedError

    @property
    def target_width(self) -> int:
        """Numbers of a row's encoded target, beside those of other heads."""
        return self.outputs

    @property
    def known_width(self) -> int:
        """Numbers of a row's target as metrics take it, beside those of other heads."""
        return self.outputs

    def as_encoded(self, part: Tensor) -> Tensor:
        """Encoded target as the loss takes it.

        Parameters
        ----------
        part : Tensor, shape (n, target_width)
            As it stands beside those of other heads, in floats.
        """
        return part

    def as_known(self, part: Tensor) -> Tensor:
        """Target as metrics take it; see `truth`.

        Parameters
        ----------
        part : Tensor, shape (n, known_width)
            As it stands beside those of other heads, in float64.
        """
        return part

    # --- its answers, without torch ---

    @property
    def decoded_spec(self) -> TensorSpec:
        """Decoded answers: the last output of an exported model."""
        return self.specs[-1]

    def decoded_from(self, outputs: Mapping[str, Array]) -> Array:
        """Decoded answers, from the outputs of an exported model.

        Parameters
        ----------
        outputs : mapping of str to ndarray, shape (n, …)
            Outputs by the names of `specs`.
        """
        return outputs[self.specs[-1].name]

    def quantities(self, values: Array) -> Array:
        """Quantities of some rows in their own units, float64 (n, k).

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)
            The target as it came.
        """
        return floats(values, self.names).reshape(len(values), -1)

    def check_rows(self, values: Array) -> None:
        """Raise `DataError` where rows have other numbers than the model was trained on.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)
            The target as it came.
        """
        given = "one value a row" if values.ndim == 1 else f"{values.shape[1]} values a row"
        known = "one value a row" if self.flat else f"{self.outputs} values a row"
        if given != known:
            raise DataError(
                f"The target has {given}; the model was trained on {known}.", "Give the targets it answers."
            )

    def clamped(self, values: Array) -> Task:
        """The same, with predicted quantities kept in the range of ``values``, the training targets.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)
            The target of all training rows, as it came.
        """
        return self

    def counted(self, figures: RunningStatistics, counts: Array, standardise: bool) -> Task:
        """The same with the statistics of all training rows, where it was fitted on some of them.

        Parameters
        ----------
        figures : RunningStatistics
            Of each number of the target; of none where it is text.
        counts : ndarray, int64 (classes,)
            Rows of each class; empty where a row has not one label.
        standardise : bool
            Whether quantities are learnt in units of their standard deviation.

        Raises
        ------
        OptionError
            If the task is not for rows that are read from disk.
        """
        raise OptionError(f"Rows that are read from disk are not for the task {self.task}.", "Drop --stream.")

    def same_encoding(self, other: Task) -> bool:
        """Whether a target that another task encoded is what this one would make of it.

        Parameters
        ----------
        other : Task
            The task that encoded the target.
        """
        return (self.task, self.classes) == (other.task, other.classes)

    def answering(self, row: tuple[int, ...]) -> Task | None:
        """The task of a network with answers of shape ``row`` for each row; None where it does not fit.

        Parameters
        ----------
        row : tuple of int
            Shape of one row of the network's output.
        """
        raise NotImplementedError

    def difference(self, before: Array, after: Array) -> float:
        """Largest difference of two sets of decoded answers: absolute of probabilities, else relative to their size.

        Parameters
        ----------
        before : ndarray, shape (n, …)
            Decoded answers of the model.
        after : ndarray, shape (n, …)
            Decoded answers of an export of it, to the same rows.
        """
        return float(_apart(before, after).max(initial=0.0))

    def compare(self, before: Array, after: Array) -> dict[str, float]:
        """What else a report says of an export's answers beside the model's own, by name.

        Parameters
        ----------
        before, after : ndarray, shape (n, …)
            As of `difference`.
        """
        return {}

    # --- outputs and targets as tensors ---

    def decoder(self) -> nn.Module:
        """Module from the network's outputs to decoded answers."""
        raise NotImplementedError

    def decide(self, decoded: Tensor) -> Tensor:
        """What decoded outputs say: index of the likeliest class (n,), or of several labels whether each holds.

        Parameters
        ----------
        decoded : Tensor, shape (n, …)
            Probabilities or quantities.
        """
        return decoded.argmax(dim=1)

    def table(self, decoded: Tensor) -> Tensor:
        """Decoded answers as metrics take them: probabilities (n, classes), or quantities (n, k).

        Parameters
        ----------
        decoded : Tensor, shape (n, …)
            Probabilities or quantities.
        """
        return decoded.reshape(len(decoded), -1)

    def scored(
        self, table: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What metrics are taken of: decoded answers as a table, their truth and weights, without what is ignored.

        Parameters
        ----------
        table : Tensor, shape (n, k)
            What `table` made of decoded answers.
        truth : Tensor, shape (n,) or (n, k)
            What `truth` made of the target.
        weights : Tensor or None, shape (n,)
            Weights of rows, as `row_weights` made them.
        """
        return table, truth, weights

    def row_weights(self, weights: Tensor) -> Tensor:
        """Weights of rows as metrics take them.

        Parameters
        ----------
        weights : Tensor, shape (n,)
            Weights of rows.
        """
        return weights

    def truth(self, target: Tensor) -> Tensor:
        """Encoded target as metrics take it: class indices (n,), labels (n, k), or float64 quantities (n, k).

        Parameters
        ----------
        target : Tensor, shape (n,) or (n, outputs)
            What `encode` made.
        """
        return target

    def class_index(self, target: Tensor) -> Tensor:
        """Encoded target of one label a row as class indices, int64 (n,).

        Parameters
        ----------
        target : Tensor, shape (n,) or (n, outputs)
            What `encode` made.
        """
        return target

    def recoded(self, target: Tensor, after: Task) -> Tensor:
        """Encoded target as another task has it: of the same labels among more, or of two as class indices.

        Parameters
        ----------
        target : Tensor, shape (n,) or (n, outputs)
            What `encode` made.
        after : Task
            The other one.
        """
        if after.same_encoding(self):
            return target
        index = self.class_index(target)
        if self.classes == after.classes:
            return index
        return index.new_tensor([after.classes.index(label) for label in self.classes])[index]

    def encode_batch(self, target: Tensor) -> Tensor:
        """Target of a loader's batch, in whatever shape and type it has, as the loss takes it.

        Parameters
        ----------
        target : Tensor, shape (n, …)
            As a dataset or loader gives it.
        """
        return target.float().reshape(len(target), -1)

    def mean_outputs(self, outputs: Tensor) -> Tensor:
        """Outputs of an ensemble as those of one network, (n, outputs).

        Parameters
        ----------
        outputs : Tensor, shape (members, n, outputs)
            Outputs of each member.
        """
        raise NotImplementedError

    # --- loss, metrics, baseline ---

    def loss(
        self, name: str, weights: Tensor | None, smoothing: float, reduction: str = "mean"
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Loss of a name, ``(outputs, target) -> scalar``.

        Parameters
        ----------
        name : str
            ``"auto"`` for the task's own.
        weights : Tensor or None
            One for each class.
        smoothing : float
            Share of the target spread over all classes.
        reduction : {"mean", "none"}
            ``"none"`` gives a loss for each number of the target.

        Raises
        ------
        OptionError
            If it is for another task.
        """
        raise NotImplementedError

    def taught(self, answers: Array, teacher: Task) -> Array:
        """What a model of this task learns of a teacher's answers, float32 (n, k).

        Parameters
        ----------
        answers : ndarray, shape (n, …)
            Decoded answers of the teacher.
        teacher : Task
            What the teacher answers.

        Raises
        ------
        OptionError
            If a teacher of that task is of no use.
        """
        raise OptionError(
            f"The teacher answers {teacher.description}, which is of no use where {self.description} is learnt.",
            "Name a teacher of the same target, or drop --teacher.",
        )

    def likeness(
        self, temperature: float, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Loss of outputs against what `taught` made, ``(outputs, taught) -> scalar``.

        Parameters
        ----------
        temperature : float
            What logits are divided by.
        loss : callable
            The loss against the target.
        """
        raise NotImplementedError

    def mass(self, weights: Tensor | None) -> Callable[[Tensor], Tensor] | None:
        """Weight of a batch in the mean over several, where the loss divides by the weights of its labels; else None.

        Parameters
        ----------
        weights : Tensor or None, shape (classes,)
            Weight of each class in the loss.
        """
        return None

    def metrics(self) -> Mapping[str, Callable[..., float]]:
        """Metrics of the package by name, ``metric(decoded, target, weights)``."""
        raise NotImplementedError

    def torchmetrics_arguments(self) -> dict[str, Any]:
        """What a class of torchmetrics is made with."""
        raise NotImplementedError

    def for_torchmetrics(self, decoded: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Decoded answers and target as the class ``name`` of torchmetrics takes them.

        Parameters
        ----------
        decoded : Tensor, shape (n, …)
            Probabilities or quantities.
        target : Tensor, shape (n,) or (n, k)
            What `truth` made of the target.
        name : str
            Name of the class of torchmetrics.
        """
        return decoded, target.long()

    def constant(self, known: Tensor) -> Tensor:
        """What a constant answers: mean of each quantity, or share of each label, float64 (k,).

        Parameters
        ----------
        known : Tensor
            Target of some rows as metrics take it, for where those of the training were not counted.
        """
        if self.usual:
            import torch

            return torch.tensor(self.usual, dtype=torch.float64, device=known.device)
        return self.share(known)

    def constant_table(self, known: Tensor) -> Tensor:
        """What a constant answers to some rows, as a table; see `table`.

        Parameters
        ----------
        known : Tensor, shape (n,) or (n, k)
            Target of some rows as metrics take it.
        """
        return self.constant(known).expand(len(known), -1)

    def constant_outputs(self, known: Tensor, classes: Tensor | None, smoothing: float) -> Tensor:
        """Outputs of a row, float64 (outputs,), for the constant answer with the smallest loss.

        Parameters
        ----------
        known : Tensor
            Target of some rows as metrics take it.
        classes : Tensor or None
            Weight of each class in the loss.
        smoothing : float
            Of labels, in the loss.
        """
        said = self.smoothed(self.constant(known), smoothing)
        if classes is not None:
            heavy = said * classes.to(said)
            said = heavy / heavy.sum() if heavy.sum() > 0 else said
        return self.outputs_for(said)

    def share(self, known: Tensor) -> Tensor:
        """Mean of a target, or share of each label, float64 (k,).

        Parameters
        ----------
        known : Tensor, shape (n,) or (n, k)
            Target of some rows as metrics take it.
        """
        return known.double().mean(0)

    def smoothed(self, shares: Tensor, smoothing: float) -> Tensor:
        """Shares of labels as a loss with label smoothing counts them.

        Parameters
        ----------
        shares : Tensor, shape (k,)
            Share of each label, or mean of each quantity.
        smoothing : float
            Label smoothing of the loss, from 0 to 1.
        """
        return shares * (1 - smoothing) + smoothing / len(shares)

    def outputs_for(self, answer: Tensor) -> Tensor:
        """Outputs, float64 (outputs,), that are decoded as one answer.

        Parameters
        ----------
        answer : Tensor, shape (k,)
            Probabilities or quantities of one row.
        """
        raise NotImplementedError

    def usual_of(self, mean: Tensor) -> Tensor:
        """Value of `usual`, from the mean of an encoded target, or from the share of each class.

        Parameters
        ----------
        mean : Tensor, shape (k,)
            Mean of the encoded training target, or share of each class.
        """
        return mean


def floats(values: Array, names: Sequence[str]) -> Array:
    """Quantities of the columns ``names`` as float64; raises `DataError` for text.

    Parameters
    ----------
    values : ndarray, shape (n,) or (n, k)
        The target as it came.
    names : sequence of str
        Names of its columns, for the error.
    """
    try:
        return values.astype(np.float64)
    except (ValueError, TypeError):
        if len(names) > 1:
            of_text = next((name for name, one in zip(names, values.T, strict=False) if _holds_text(one)), names[0])
            each = ", ".join(f"{name!r}: {name!r}" for name in names[:4])
            raise DataError(
                f"The target {of_text!r} holds text; several targets in a list are one answer of numbers.",
                f"A head for each: target={{{each}}}",
            ) from None
        raise DataError(
            f"The target {', '.join(names)!r} holds text, which is not a quantity.", "--task multiclass learns labels."
        ) from None


def _holds_text(values: Array) -> bool:
    return any(isinstance(value, str) for value in values.ravel().tolist())


def _apart(before: Array, after: Array) -> Array:
    return np.abs(before.astype(np.float64) - after.astype(np.float64))
