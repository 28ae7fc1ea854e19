"""Cleaning of texts as a part of the tokenizer: what reads `tokenizer.json` cleans as the model does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from maas_magics.api.errors import OptionError, did_you_mean, require

# No pattern goes back: each piece ends at the next "<", so a text of any letters takes time by its length alone.
SCRIPT = r"(?i)<(?:script|style)\b[^<>]*>[^<]*</(?:script|style)\s*>"
TAG = r"</?[A-Za-z!][^<>]*>"
ENTITIES = {"&nbsp;": " ", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&apos;": "'", "&amp;": "&"}


def _html() -> list[Any]:
    from tokenizers import Regex, normalizers

    tags = [normalizers.Replace(Regex(pattern), " ") for pattern in (SCRIPT, TAG)]
    return [*tags, *(normalizers.Replace(name, letter) for name, letter in ENTITIES.items())]


def _form(name: str) -> Callable[[], list[Any]]:
    def made() -> list[Any]:
        from tokenizers import normalizers

        return [getattr(normalizers, name)()]

    return made


def _spaces() -> list[Any]:
    from tokenizers import Regex, normalizers

    return [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]


def _accents() -> list[Any]:
    from tokenizers import normalizers

    return [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]


STEPS: dict[str, Callable[[], list[Any]]] = {
    "html": _html,
    "nfc": _form("NFC"),
    "nfkc": _form("NFKC"),
    "spaces": _spaces,
    "lower": _form("Lowercase"),
    "accents": _accents,
}
"""What each step is made of: tags of HTML and its usual entities; a Unicode form; one space for any white space; lower
case; letters without accents."""


def steps_of(text: str) -> tuple[str, ...]:
    """Names of steps between plus signs, in the order that they are taken in.

    Raises
    ------
    OptionError
        If there is none of a name.
    """
    found = tuple(step.strip() for step in text.split("+") if step.strip())
    unknown = next((step for step in found if step not in STEPS), None)
    if unknown is not None or not found:
        raise OptionError(f"There is no cleaning {unknown or text!r}.", did_you_mean(unknown or text, STEPS))
    return found


def normalizer(steps: Sequence[str]) -> Any:
    """The library's normaliser of some steps."""
    require("tokenizers", "tokenizers", "Text", "maas-magics[text]")
    from tokenizers import normalizers

    return normalizers.Sequence([one for step in steps for one in STEPS[step]()])


def with_cleaning(source: str, steps: Sequence[str]) -> str:
    """A tokenizer's JSON that cleans before all else that it does.

    Parameters
    ----------
    source : str
        The JSON of a tokenizer.
    steps : sequence of str
        Names of steps.
    """
    if not steps:
        return source
    from tokenizers import Tokenizer, normalizers

    made = Tokenizer.from_str(source)
    before = [made.normalizer] if made.normalizer is not None else []
    made.normalizer = normalizers.Sequence([normalizer(steps), *before])
    return json.dumps(json.loads(made.to_str()), ensure_ascii=False)
