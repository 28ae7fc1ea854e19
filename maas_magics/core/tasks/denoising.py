"""How a noisy picture becomes a clean one, by what a text says of it: pictures are drawn that way, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from maas_magics.api.errors import OptionError
from maas_magics.core.data.arrow import Array
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Task, TaskName
from maas_magics.core.tasks.regression import Regression

if TYPE_CHECKING:
    from torch import Tensor


@tasks.register("denoising")
class Denoising(Regression, frozen=True, tag="denoising"):
    """The velocity from noise to a picture, of a noisy picture, its time and its caption (Liu et al. 2023).

    Pictures have values within −1…1; ``axes`` is their shape, (channels, height, width).

    Attributes
    ----------
    caption : str
        Name of the column of texts that say what the pictures show.
    """

    caption: str = ""

    task: ClassVar[TaskName] = "denoising"
    runtime: ClassVar[str] = "pictures"
    usual_metrics: ClassVar[tuple[str, ...]] = ("rmse",)

    @classmethod
    def fit(cls, values: Array, names: tuple[str, ...], *, standardise: bool, ignored: int | None = None) -> Task:
        """None is fitted to values alone; see `maas_magics.core.batches.captioned`."""
        raise OptionError("The task denoising reads pictures and their captions.", "--target picture --text caption")

    @classmethod
    def fit_batch(cls, target: Tensor, outputs: Callable[[], Tensor], classes: Sequence[object] | None) -> Task:
        """None: captions are read from a table."""
        raise OptionError("Rows of a loader are not for the task denoising.", "Give a table of pictures and captions.")

    @classmethod
    def of(cls, picture: str, caption: str, shape: tuple[int, ...]) -> Self:
        """The task of pictures of one shape.

        Parameters
        ----------
        picture, caption : str
            Names of the columns.
        shape : tuple of int
            (channels, height, width).
        """
        return cls((picture,), center=(0.0,), scale=(1.0,), flat=False, axes=shape, usual=(0.0,), caption=caption)

    @property
    def description(self) -> str:
        """Of which columns."""
        return f"{self.task} of {self.names[0]} by {self.caption}"


def is_denoising(task: object) -> bool:
    """Whether a task that was requested is to draw pictures.

    Parameters
    ----------
    task : object
        Name of a task, or whatever else a request may hold.
    """
    return isinstance(task, str) and task in tasks and issubclass(tasks.get(task), Denoising)
