"""What runs a version's files: a runtime by name. Another package adds one by an entry point.

A version whose manifest names a runtime is opened by it; the others are opened by ONNX Runtime or torch. In the
``pyproject.toml`` of a package that brings one::

    [project.entry-points."maas_magics.runtimes"]
    mine = "my_package:MyRuntime"

where ``MyRuntime()`` is a `Runtime`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array
from maas_magics.core.registry import Registry


class Session(Protocol):
    """A model that is open, and answers in one pass."""

    def run(self, inputs: Sequence[Array]) -> dict[str, Array]:
        """Outputs by name for the inputs of the signature, in its order; first axis: rows.

        Parameters
        ----------
        inputs : sequence of ndarray, shape (n, …)
            Inputs of the signature, in its order.
        """


class State(Protocol):
    """What one answer in several passes keeps between them, such as a key-value cache or latents.

    One that may have no room left has ``full``, a bool; the answer then ends. One that may be closed and begun anew,
    with all that was chosen fed to it before its next pass, has ``resumable``, True.
    """

    @property
    def size(self) -> int:
        """Elements of the input, such as tokens of a prompt."""

    def feed(self, value: Any) -> None:
        """Take what was chosen of the last pass's output; the next pass resumes from it.

        Parameters
        ----------
        value : Any
            `Choice.value` of the sampler.
        """

    def close(self) -> None:
        """Free what is kept. Called once, between two steps."""


class Choice(NamedTuple):
    """What a sampler made of one output.

    Attributes
    ----------
    value : Any
        What the state is fed with.
    delta : Any
        What the reader gets; None for nothing this time.
    finish : {"", "stop"}
        Whether the answer ends here.
    """

    value: Any
    delta: Any
    finish: Literal["", "stop"] = ""


class Sampler(Protocol):
    """Chooses from the outputs of one answer, pass after pass.

    One that may hold something back has ``rest()``, which gives it once no more pass comes.
    """

    def choose(self, output: Array) -> Choice:
        """Choose what one output becomes.

        Parameters
        ----------
        output : ndarray
            Output of one pass for this answer, as `IterativeSession.step` gave it.
        """


@runtime_checkable
class IterativeSession(Protocol):
    """A model that is open, and answers in several passes.

    All calls but `sampler` come from one thread.
    """

    @property
    def slots(self) -> int:
        """States that may be there at a time; further answers wait."""

    def sampler(self, params: Mapping[str, Any]) -> Sampler:
        """A sampler for one answer; called in any thread.

        Parameters
        ----------
        params : mapping of str to Any
            Parameters of the request, such as a temperature or a seed.

        Raises
        ------
        OptionError
            If it does not know a parameter.
        """

    def start(self, inputs: Sequence[Array]) -> State:
        """Begin one answer.

        It is quick: a long input is read in the first steps.

        Parameters
        ----------
        inputs : sequence of ndarray, shape (1, …)
            Inputs of one row, in the order of the signature.
        """

    def step(self, states: Sequence[State]) -> Sequence[Array | None]:
        """One pass over several answers at once: an output for each, None for one that has none yet.

        If it raises, no state has moved: each is then stepped alone, so that one that fails harms no other.

        Parameters
        ----------
        states : sequence of State
            The answers of this pass, at most `slots`.
        """


class Runtime(Protocol):
    """Opens versions.

    One whose sessions keep keys and values may have ``kv_memory``, bytes of them at most or None, which is set before
    it opens a version where its user said how many.
    """

    def open(self, folder: Path, shared: bool) -> Session | IterativeSession:
        """Open the files of a version, which were checked.

        Parameters
        ----------
        folder : Path
            The version's folder, to read.
        shared : bool
            Whether the processor is shared with a server's other work.
        """


RUNTIMES: Registry[Callable[[], Runtime]] = Registry("runtime", __name__, "maas_magics.runtimes")


def unanswered(error: Exception) -> DataError:
    """The error of rows that a model fails on.

    Parameters
    ----------
    error : Exception
        What the model raised.
    """
    lines = str(error).splitlines() or [type(error).__name__]
    return DataError(f"The model cannot answer this: {lines[0][:300]}")
