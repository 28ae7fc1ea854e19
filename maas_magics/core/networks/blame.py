"""Errors of code that is not ours, reported in two lines that name the line at fault."""

from __future__ import annotations

import functools
import inspect
import linecache
import sysconfig
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import nn

from maas_magics.api.errors import MaasError, ModelError

OURS = Path(__file__).parents[2]
"""Folder of this package."""

LIBRARIES = (
    *{sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    str(Path(torch.__file__).parents[1]),
)
"""Folders of installed packages; torch may be in another one than this environment's, which sees that one's too."""

HINTS = {
    "aliasing during higher order op": "Call layers before torch.cond, and hand it their outputs; or pick values with "
    "torch.where.",
    "Expected more than 1 value per channel when training": "A batch-norm needs two rows or more: --batch-size 32",
    "Expected more than 1 spatial element when training": "An instance-norm needs several places in each row.",
    "all elements of input should be between 0 and 1": "It takes probabilities: end the network with a sigmoid, or use "
    "nn.BCEWithLogitsLoss().",
    "index out of range in self": "Every number that an nn.Embedding gets is at least 0 and below its first argument.",
}
"""What to do about an error, by the words of torch's message; empty for any other."""


def told_of(error: BaseException, what: str, hint: str = "") -> ModelError:
    """An error of the user's code, or of what it calls, as one of ours that is one of its own kind as well.

    Parameters
    ----------
    error : BaseException
        With its traceback.
    what : str
        What failed, without a full stop.
    hint : str
        What to do, where that is known.
    """
    said = first_line(error)
    place = where(error)
    found = next((told for sign, told in HINTS.items() if sign in str(error)), hint)
    made = _joined(type(error), f"{what}: {said}{f' ({place})' if place else ''}", found, error.args)
    return made.with_traceback(error.__traceback__)


def _joined(kind: type[BaseException], message: str, hint: str, args: tuple[Any, ...]) -> ModelError:
    """An error of ours that ``except kind`` catches too, where Python can make one."""
    try:
        made: ModelError = _both(kind)(message, hint)  # type: ignore[arg-type]
        made.args = args
        str(made)
    except Exception:  # a kind that cannot be joined, or made without its own arguments
        return ModelError(message, hint)
    return made


@functools.cache
def _both(kind: type[BaseException]) -> type[ModelError]:
    def reduce(self: Any) -> Any:
        return _joined, (kind, self.message, self.hint, self.args)

    return type(
        ModelError.__name__, (ModelError, kind), {"__reduce__": reduce, "__init__": _init, "__module__": __name__}
    )


def _init(self: Any, message: str, hint: str = "") -> None:
    self.message, self.hint = message, hint


def first_line(error: BaseException) -> str:
    """Kind of an error and the first line of what it says."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = f"{type(error).__name__}: {line}" if line else type(error).__name__
    return text[:300]


def frames_of(error: BaseException) -> list[FrameType]:
    """Frames that an error came through, the innermost last."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def where(error: BaseException) -> str:
    """The innermost line of the user's own that an error came through, and the layer of torch's that it came from."""
    line, layer = "", ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        file = frame.f_code.co_filename
        if isinstance(owner, nn.Module) and frame.f_code.co_name in ("forward", "_conv_forward"):
            layer = type(owner).__name__ if type(owner).__module__.startswith("torch.") else ""
        if is_theirs(file):
            source = linecache.getline(file, number, frame.f_globals).strip()
            line = _line(file, number, f": {source}" if source else f" of {frame.f_code.co_name}")
    return "; ".join(part for part in (f"in {layer}" if layer else "", line) if part)


def name_of(function: Any) -> str:
    """Name of a function or a module of the user's, for display."""
    return str(getattr(function, "__name__", type(function).__name__))


def _line(file: str, number: int, then: str) -> str:
    name = Path(file).name if not file.startswith("<") else ""
    return f"line {number}{f' of {name}' if name and 'ipykernel' not in file else ''}{then}"


def arguments_of(function: Any, given: int) -> str | None:
    """How many arguments a function takes, in words, where it cannot be called with ``given`` of them; else None."""
    try:
        found = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (TypeError, ValueError):  # one without a signature, as many of C have
        return None
    try:
        found.bind(*range(given))
    except TypeError:
        needed = [p for p in found.parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        count = len(needed) if len(needed) > given else len(found.parameters)
        return f"{count or 'no'} argument{'s' * (count != 1)}"
    return None


def code_of(function: Any) -> str:
    """The line that a function of the user's begins at, in brackets after a blank; empty of any other."""
    code = getattr(function, "__code__", None)
    if code is None or not is_theirs(code.co_filename):
        return ""
    source = linecache.getline(code.co_filename, code.co_firstlineno, function.__globals__).strip()
    return f" ({_line(code.co_filename, code.co_firstlineno, f': {source}' if source else f' of {code.co_name}')})"


def is_theirs(file: str) -> bool:
    """Whether code of a file is the user's: neither Python's, nor an installed package's, nor this one's."""
    if file.startswith("<frozen") or file in ("<string>", "<eval_with_key>"):
        return False
    if "ipykernel" in file or "ipython-input" in file or file.startswith("<"):
        return True
    path = Path(file)
    return not (path.is_relative_to(OURS) or any(path.is_relative_to(folder) for folder in LIBRARIES))


def touches_theirs(trace: TracebackType | None) -> bool:
    """Whether an error came through code of the user's, or through a layer."""
    for frame, _ in traceback.walk_tb(trace):
        if is_theirs(frame.f_code.co_filename) or isinstance(frame.f_locals.get("self"), nn.Module):
            return True
    return False


def as_ours(error: Exception, what: str) -> MaasError | None:
    """An error in a training as one of ours, where it came through the user's code or torch; None of our own faults."""
    if isinstance(error, MaasError):
        return error
    trace = error.__traceback__
    from_torch = isinstance(error, RuntimeError) or type(error).__module__.startswith("torch")
    return told_of(error, what) if touches_theirs(trace) or from_torch else None
