"""Words and segments of tokens that a network wrote, with their seconds, as Whisper's own tokenizer joins them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias, TypedDict

Timed: TypeAlias = tuple[bytes, float, float]
"""What a token writes, and its seconds, from and to."""

BEFORE, BEHIND = "\"'“¡¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Signs that belong to the word behind them, and to the word before them."""

UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF))
"""Letters of writings without spaces between words: Thai, Lao, Burmese, Japanese, Chinese."""


class Span(TypedDict):
    """A word or a segment.

    Attributes
    ----------
    start, end : float
        Seconds from the beginning of the recording.
    text : str
    """

    start: float
    end: float
    text: str


@lru_cache(maxsize=1)
def byte_of() -> dict[str, int]:
    """The byte that each letter of a byte-level tokenizer stands for, as in GPT-2."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


def segments_of(parts: Sequence[Sequence[Timed]]) -> list[Span]:
    """A segment for each part with tokens.

    Parameters
    ----------
    parts : sequence of sequence of Timed
        Tokens between two that say when something is said.
    """
    return [_span(b"".join(piece for piece, _, _ in part), part[0][1], part[-1][2]) for part in parts if part]


def words_of(parts: Sequence[Sequence[Timed]]) -> list[Span]:
    """Words: what begins with a space or is a sign, or a letter of a writing without spaces; signs join their words.

    Parameters
    ----------
    parts : sequence of sequence of Timed
        Tokens between two that say when something is said.
    """
    return [span for part in parts for span in _joined(_letters(part))]


def _letters(part: Sequence[Timed]) -> list[tuple[str, float, float]]:
    """Tokens, joined where one alone is not UTF-8."""
    found: list[tuple[str, float, float]] = []
    waiting, start = b"", 0.0
    for place, (piece, begins, ends) in enumerate(part):
        start = start if waiting else begins
        waiting += piece
        try:
            text = waiting.decode()
        except UnicodeDecodeError as error:
            if error.end == len(waiting) and error.reason == "unexpected end of data" and place < len(part) - 1:
                continue
            text = waiting.decode(errors="replace")
        found.append((text, start, ends))
        waiting = b""
    return found


def _joined(letters: Sequence[tuple[str, float, float]]) -> list[Span]:
    words: list[list[tuple[str, float, float]]] = []
    for one in letters:
        text = one[0]
        unspaced = any(first <= ord(text[0]) <= last for first, last in UNSPACED)
        if not words or text.startswith(" ") or text.strip() in string.punctuation or unspaced:
            words.append([])
        words[-1].append(one)
    spans = [("".join(text for text, _, _ in word), word[0][1], word[-1][2]) for word in words]
    held: list[tuple[str, float, float]] = []
    for text, start, end in reversed(spans):  # signs before a word
        if held and text.startswith(" ") and text.strip() in BEFORE:
            later, _, ends = held.pop()
            held.append((text + later, start, ends))
        else:
            held.append((text, start, end))
    found: list[tuple[str, float, float]] = []
    for text, start, end in reversed(held):
        if found and not found[-1][0].endswith(" ") and text in BEHIND:
            before, begins, _ = found.pop()
            found.append((before + text, begins, end))
        else:
            found.append((text, start, end))
    return [Span(start=start, end=end, text=text.strip()) for text, start, end in found]


def _span(written: bytes, start: float, end: float) -> Span:
    return Span(start=start, end=end, text=written.decode(errors="replace").strip())
