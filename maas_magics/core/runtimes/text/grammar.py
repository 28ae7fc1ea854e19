"""Answers that keep to a form: JSON of a schema, one of several texts, a regular expression; by llguidance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from maas_magics.api.errors import OptionError, require
from maas_magics.core.data.arrow import Array

LONGEST = 100_000
"""Letters of a form."""

FORMS = ("json", "choice", "regex")


class Grammar:
    """Which tokens may come next, in one answer.

    Parameters
    ----------
    source : str
        The JSON of `tokenizer.json`.
    size : int
        Tokens that the network knows.
    ends : sequence of int
        Ids of tokens that end an answer.
    form : {"json", "choice", "regex"}
        What it keeps to.
    told : Any
        A schema, or True for any JSON object; several texts; a regular expression.

    Raises
    ------
    OptionError
        If the form is not valid.
    """

    def __init__(self, source: str, size: int, ends: Sequence[int], form: str, told: Any) -> None:
        require("llguidance", "llguidance", f"{form}=…", "maas-magics[text]")
        from llguidance import LLMatcher

        if not ends:
            raise OptionError(f"{form}=… needs a model that knows a token which ends a text.", "Leave it out.")
        made: Any = LLMatcher
        # Silent: its warnings would name tokens of the answer.
        self._matcher = made(_tokens(source, size, tuple(ends)), _grammar(made, form, told), log_level=0)
        if self._matcher.is_error():
            why = _reason(str(self._matcher.get_error()))
            raise OptionError(f"{form}=… is not valid: {why}.", EXAMPLES[form])
        self._size = size
        self._mask = np.zeros((1, (size + 31) // 32), dtype=np.int32)
        self._first: Array | None = self._allowed()  # here, where no other answer waits: it may take long

    def masked(self, logits: Array) -> Array:
        """Logits, minus infinity for tokens that may not come.

        Parameters
        ----------
        logits : ndarray, shape (vocabulary,)
            Of the next token.
        """
        there, self._first = self._allowed() if self._first is None else self._first, None
        return np.where(there, logits[: self._size], -np.inf)

    def _allowed(self) -> Array:
        """Which tokens may come next, bool (vocabulary,).

        Raises
        ------
        OptionError
            If none may, or it cannot be found out.
        """
        from llguidance.numpy import fill_next_token_bitmask

        fill: Any = fill_next_token_bitmask
        fill(self._matcher, self._mask, 0)
        there = np.unpackbits(self._mask.view(np.uint8), bitorder="little")[: self._size].astype(bool)
        if self._matcher.is_error() or not there.any():
            raise OptionError("The form leaves no token to choose, or is too large.", "Simplify it.")
        return there

    def take(self, token: int) -> None:
        """Go on behind a token that was chosen.

        Parameters
        ----------
        token : int
            Its id.
        """
        self._matcher.consume_token(token)


EXAMPLES = {"json": 'json={"type": "object"}', "choice": 'choice=["yes", "no"]', "regex": 'regex="[0-9]+"'}


def _grammar(matcher: Any, form: str, told: Any) -> Any:
    """A form as llguidance reads it."""
    if form == "choice":
        if not isinstance(told, (list, tuple)) or not told or not all(isinstance(one, str) and one for one in told):
            raise OptionError("choice=… is a list of texts.", EXAMPLES[form])
        text = "|".join(json.dumps(one, ensure_ascii=False) for one in told)
        made = matcher.grammar_from_lark(f"start: TEXT\nTEXT: {text}")  # one word of the lexer, however many there are
    elif form == "regex":
        if not isinstance(told, str) or not told:
            raise OptionError("regex=… is a regular expression.", EXAMPLES[form])
        text = told
        made = matcher.grammar_from_regex(told)
    else:
        schema = {"type": "object"} if told is True else told
        try:
            schema = json.loads(schema) if isinstance(schema, str) else schema
            text = json.dumps(schema)
        except (TypeError, ValueError) as error:
            raise OptionError(f"json=… is not a schema: {error}", EXAMPLES[form]) from None
        if not isinstance(schema, dict):
            raise OptionError("json=… is not a schema.", EXAMPLES[form])
        # Without white space but one space behind a comma and a colon: a model in doubt would write it for ever.
        made = matcher.grammar_from_json_schema(text, overrides={"whitespace_flexible": False})
    if len(text) > LONGEST:
        raise OptionError(f"{form}=… has {len(text):,} letters; {LONGEST:,} at most were expected.", "Simplify it.")
    return made


def _reason(told: str) -> str:
    """What is wrong with a form: the parser of regular expressions says it last, behind a drawing of where."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    last = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), lines[0])
    return last[:200].rstrip(".:")


@lru_cache(maxsize=8)
def _tokens(source: str, size: int, ends: tuple[int, ...]) -> Any:
    """A tokenizer as llguidance has it."""
    from llguidance import LLTokenizer

    made: Any = LLTokenizer
    try:
        return made(source, n_vocab=size, eos_token=list(ends))
    except ValueError as error:  # as of word pieces, whose letters it cannot tell
        told = f"No form can be kept with the model's tokenizer: {str(error)[:120]}."
        raise OptionError(told, "Leave it out; byte-level tokenizers can.") from None
