"""How a noisy picture becomes a clean one, by what a text says of it: pictures are drawn that way, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from maas_magics.api.errors import OptionError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Task, TaskName
from maas_magics.core.tasks.regression import Regression

if TYPE_CHECKING:
    from torch import Tensor


LOOP = """
steps, guidance, seed = 8, 2.0, 0
(name, *others), captions = [value.name for value in session.get_inputs()], list(inputs.values())[0]
words = np.concatenate([captions, np.zeros_like(captions)])  # as they are, and left out
shape = session.get_inputs()[1].shape[1:]
noisy = np.random.default_rng(seed).standard_normal((len(captions), *shape)).astype("float32")
for step in range(steps):
    times = np.full((len(words), 1), step / steps, dtype="float32")
    given = dict(zip(others, [np.concatenate([noisy, noisy]), times]))
    by_caption, without = np.split(session.run(None, {name: words, **given})[0], 2)
    noisy = noisy + (without + guidance * (by_caption - without)) / np.float32(steps)
pictures = np.round((np.clip(noisy, -1, 1) + 1) * 127.5).astype("uint8")  # (n, channels, height, width)
print(pictures.shape)
"""
"""From noise to pictures, without this package."""


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
    loop: ClassVar[str] = LOOP

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
    def specs(self) -> tuple[TensorSpec, ...]:
        """Velocities."""
        return (TensorSpec("prediction", "FP32", (-1, *self.row), "the way from noise to the picture"),)

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
