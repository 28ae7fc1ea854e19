"""A line that is being typed, for completion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maas_magics.magics.words import Names


@dataclass(frozen=True)
class Typed:
    """What is known of a line and of where it stands.

    Attributes
    ----------
    names : Names
    words : list of str
        Words before the one that is being typed.
    word : str
        The one that is being typed; of values between commas, the last.
    local : list of str
        Names of the function that the line stands in, whose values no one knows yet.
    models, jobs : callable
        Names of the models in the store, ids of the jobs.
    versions : callable
        Versions and aliases of a model.
    columns : callable
        Names of the columns of a file.
    """

    names: Names
    words: list[str]
    word: str
    local: list[str]
    models: Callable[[], list[str]]
    jobs: Callable[[], list[str]]
    versions: Callable[[str], list[str]]
    columns: Callable[[str], list[str]]

    def value_of(self, *flags: str) -> str | None:
        """Word that follows a flag, or the first positional when no flag is given."""
        if not flags:
            return next((word for word in self.words if not word.startswith("-")), None)
        for word, after in zip(self.words, [*self.words[1:], ""], strict=True):
            flag, equals, value = word.partition("=")
            if flag in flags and (after or equals):
                return value if equals else after
        return None
