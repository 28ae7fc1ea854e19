"""The whole error tree. Every error is short, says what to type next, and still raises.

IPython calls an exception's ``_render_traceback_``: defining it there gives two or
three lines in the cell instead of a page, while the cell fails as it should.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MaasError(Exception):
    """Base of every error that maas_magics raises on purpose.

    Parameters
    ----------
    message : str
        What was wrong and what was expected.
    hint : str
        What to type next; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[MaasError], tuple[str, str]]:
        return type(self), (self.message, self.hint)

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self.message}", *([f"  → {self.hint}"] if self.hint else [])]


class OptionError(MaasError):
    """A magic's line, or a field of a request, is not valid."""


class InvalidName(OptionError):
    """A model name that cannot be stored."""


class DataError(MaasError):
    """Data that cannot be read, trained on or predicted."""


class NotFound(MaasError):
    """A name that does not exist."""


class ModelNotFound(NotFound):
    """No such model, version or alias."""


class ModelClosed(MaasError):
    """A model that was unloaded."""


class JobNotFound(NotFound):
    """No such job."""


class GenerationLost(NotFound):
    """A generation that is gone, or whose chunks are kept no longer."""


class GenerationEnded(MaasError):
    """A generation that was ended before the model had finished: by a time limit, or by the end of its service."""


class ModelError(MaasError):
    """A model that cannot be built, or does not fit its data."""


class TrainingError(MaasError):
    """Training could not continue."""


class Diverged(TrainingError):
    """The loss became NaN or infinite."""


class Stopped(TrainingError):
    """The job was stopped before there was anything to keep."""


class Suspended(TrainingError):
    """Training kept its state and ended for now; it is resumed later."""


class ExportError(MaasError):
    """A model could not be exported."""


class ToleranceExceeded(ExportError):
    """An exported file answers differently from the model it was made of."""


class StoreError(MaasError):
    """The store could not be read or written."""


class SealError(StoreError):
    """What is encrypted or has to be signed cannot be used: without its key, with another, or not as it was made."""


class ServiceError(MaasError):
    """A service could not be reached, or its answer could not be read."""


class Refused(ServiceError):
    """A service does not let this client do what it requested."""


class MissingDependency(MaasError):
    """An optional package is not installed; the hint names the command."""


class IncompatibleVersion(MissingDependency):
    """An installed package lacks an internal part that is used here; the hint names the command."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Sentence naming those of ``choices`` that ``word`` begins or nearly is, or all of them when there is none.

    Parameters
    ----------
    word : str
        What the user typed.
    choices : iterable of str
        What could have been typed.
    """
    known = sorted({str(choice) for choice in choices})
    begun = [choice for choice in known if choice.startswith(word)] if word.strip("-") else []
    near = [choice for choice in known if choice.strip().casefold() == word.strip().casefold()]
    if not near:
        near = begun if 0 < len(begun) <= 3 else difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    if not known:
        return ""
    shown = ", ".join(repr(name) if name != name.strip() else name for name in known[:12])
    shown += ", …" if len(known) > 12 else ""
    return f"There is: {shown}."


def require(module: str, package: str, purpose: str, install: str = "") -> None:
    """Raise `MissingDependency` unless ``module`` can be imported; ``install`` brings it where ``package`` does not.

    Parameters
    ----------
    module : str
        Module to find, by its dotted name; it is not imported.
    package : str
        Name of the package to install.
    purpose : str
        What needs it, as the subject of a sentence.
    install : str
        What to give to pip where ``package`` is not enough, such as ``"maas-magics[sweep]"``.
    """
    from importlib.util import find_spec

    if find_spec(module) is None:
        command = f'%pip install "{install}"' if install else f"%pip install {package}"
        raise MissingDependency(f"{purpose} needs {package}, which is not installed.", command)


def incompatible(package: str, part: str, purpose: str) -> IncompatibleVersion:
    """The error of a ``purpose`` that needs a ``part`` which the installed version of ``package`` does not have.

    Parameters
    ----------
    package : str
        Name of an installed package.
    part : str
        Name in it that is missing.
    purpose : str
        What needs it, as the subject of a sentence.
    """
    from importlib.metadata import version

    return IncompatibleVersion(
        f"{purpose} needs {part}, which {package} {version(package)} does not have.",
        f"%pip install --upgrade maas-magics {package}",
    )
