"""Which token comes next, and the letters that it adds: temperature, the most likely ones, and where an answer ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.tokens import pieces, tokenizer
from maas_magics.core.runtimes import Choice
from maas_magics.core.runtimes.text.grammar import FORMS, Grammar
from maas_magics.core.tasks.written import byte_of

MOST_STOPS, LONGEST_STOP = 64, 1_000
"""Texts that an answer ends before, and letters of each."""


class TextParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How tokens are chosen.

    Attributes
    ----------
    temperature : float
        What logits are divided by; 0 takes the most likely token.
    top_p : float
        Share of the likelihood that the tokens to choose from have together (Holtzman et al. 2020).
    top_k : int
        How many there are at most; 0 for all.
    seed : int or None
        Of the random numbers; the same text for the same seed.
    stop : str or list of str
        Texts before which the answer ends.
    presence_penalty, frequency_penalty : float
        Taken off the logit of a token that was chosen, once, and for each time.
    logit_bias : dict of str to float
        Added to the logits of tokens by their ids.
    json, choice, regex
        What the answer keeps to, one of them: JSON of a schema, or True for any object; one of several texts; a regular
        expression.
    logprobs : int or None
        How many tokens that might have come are told beside each that came; chunks are then `TOLD`.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: str | list[str] = ()  # type: ignore[assignment]
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[str, float] = {}
    json: Any = None
    choice: list[str] | None = None
    regex: str | None = None
    logprobs: int | None = None


TOLD = ("text", "tokens")
"""Keys of a chunk with ``logprobs``: the letters that are certain, and a list of the tokens that came, each with its
``token``, ``bytes`` and ``logprob``, and a list ``top`` of the likeliest in the same form."""

RANGES = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 10**9),
    "seed": (-(2**63), 2**64 - 1),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "logprobs": (0, 20),
}

USUAL = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "seed": 1, "logprobs": 5} | dict.fromkeys(
    ("presence_penalty", "frequency_penalty"), 0.5
)
"""A number that often does, of each."""


def parsed(params: Mapping[str, Any], size: int) -> TextParams:
    """Parameters of a request, checked.

    Parameters
    ----------
    params : mapping of str to Any
        Some of those of `TextParams`; None stands for one that is left out.
    size : int
        Tokens that the network knows.

    Raises
    ------
    OptionError
        If one is not known, or out of range.
    """
    given = {name: value for name, value in params.items() if value is not None}
    unknown = next((name for name in given if name not in TextParams.__struct_fields__), None)
    if unknown is not None:
        raise OptionError(
            f"There is no parameter {unknown!r} of a text.", did_you_mean(unknown, TextParams.__struct_fields__)
        )
    try:
        found = msgspec.convert(given, TextParams, strict=True)
    except msgspec.ValidationError as error:
        raise OptionError(f"A parameter of the text is not valid: {error}.", "temperature=0.7, top_p=0.9") from None
    for name, (least, most) in RANGES.items():
        value = getattr(found, name)
        if value is not None and not least <= value <= most:
            raise OptionError(f"{name} is {value:g}; {least:g} to {most:g} was expected.", f"{name}={USUAL[name]}")
    stops = stops_of(found)
    if len(stops) > MOST_STOPS or any(not 0 < len(one) <= LONGEST_STOP for one in stops):
        raise OptionError(
            f"stop takes up to {MOST_STOPS} texts of 1 to {LONGEST_STOP:,} letters; "
            f"{len(stops):,} were given{', one of none' if '' in stops else ''}.",
            'stop="\\n"',
        )
    forms = [form for form in FORMS if getattr(found, form) is not None]
    if len(forms) > 1:
        raise OptionError(f"An answer keeps to one form; {' and '.join(forms)} were given.", f"Drop {forms[1]}.")
    for token, bias in found.logit_bias.items():
        if not token.isdecimal() or int(token) >= size or not -100 <= bias <= 100:
            raise OptionError(
                f"logit_bias is {{{token!r}: {bias:g}}}; an id below {size:,} and -100 to 100 were expected.", ""
            )
    return found


def stops_of(params: TextParams) -> Sequence[str]:
    """Texts before which an answer ends."""
    return (params.stop,) if isinstance(params.stop, str) else tuple(params.stop)


def likeliest(shares: Array, enough: float) -> Array:
    """Places of the largest shares, the largest first, until they make up enough; as a stable sort has them.

    Parameters
    ----------
    shares : ndarray, shape (n,)
        They add up to 1.
    enough : float
        Sum of those that are wanted at least.
    """
    count = 256
    while True:  # to sort all of a large vocabulary takes longer than a pass over several texts does for one of them
        found = _above(shares, count)
        if len(found) == len(shares) or shares[found].sum() > enough + 1e-9:
            return _sorted(shares, found)
        count *= 8


def _above(values: Array, count: int) -> Array:
    """Places of the largest values, and of those that are as large as the last of them."""
    if count >= len(values):
        return np.arange(len(values))
    return np.flatnonzero(values >= np.partition(values, -count)[-count])


def _sorted(values: Array, places: Array) -> Array:
    """Places by their values, the largest first, and equal ones in their order."""
    return places[np.argsort(-values[places], kind="stable")]


class TextSampler:
    """Chooses the tokens of one answer.

    Parameters
    ----------
    feature : ProseFeature
        How tokens become texts.
    params : mapping of str to Any
        See `TextParams`.
    """

    def __init__(self, feature: ProseFeature, params: Mapping[str, Any]) -> None:
        self._params = asked = parsed(params, feature.size)
        self._tokenizer, self._ends = tokenizer(feature.tokenizer, 0), frozenset(feature.ends)
        self._random = np.random.default_rng(None if asked.seed is None else asked.seed % 2**64)
        self._stream = pieces()
        self._stops = stops_of(asked)
        self._ids: list[int] = []
        self._written = 0  # letters of them so far
        self._held = ""  # those that may be the beginning of a stop
        bias = {int(token): value for token, value in asked.logit_bias.items()}
        self._biased, self._bias = np.array(list(bias), dtype=np.int64), np.array(list(bias.values()))
        self._counts: dict[int, int] = {}
        form = next((form for form in FORMS if getattr(asked, form) is not None), "")
        self._grammar = (
            Grammar(feature.tokenizer, feature.size, feature.ends, form, getattr(asked, form)) if form else None
        )

    def choose(self, output: Array) -> Choice:
        """The next token, and the letters that are certain now.

        Parameters
        ----------
        output : ndarray, shape (vocabulary,)
            Logits.
        """
        if self._grammar is not None:
            output = self._grammar.masked(output)
        token = self._token(output)
        if self._grammar is not None:
            self._grammar.take(token)
        choice = self._choice(token)
        if self._params.logprobs is None:
            return choice
        told = [] if token in self._ends else [self._told(output, token)]
        return choice._replace(delta={"text": choice.delta or "", "tokens": told})

    def _choice(self, token: int) -> Choice:
        """What a token comes to."""
        if token in self._ends:
            return Choice(token, self._rest() or None, "stop")
        if self._params.presence_penalty or self._params.frequency_penalty:
            self._counts[token] = self._counts.get(token, 0) + 1
        self._ids.append(token)
        fresh = self._stream.step(self._tokenizer, token) or ""
        self._written += len(fresh)
        self._held += fresh
        at = self._stop_in(self._held)
        if at >= 0:
            said, self._held, self._ids = self._held[:at], "", []
            return Choice(token, said or None, "stop")
        said = self._certain()
        return Choice(token, said or None)

    def _told(self, logits: Array, token: int) -> dict[str, Any]:
        """A token that came, and the likeliest, with the logarithms of their shares."""
        finite = logits[np.isfinite(logits)].astype(np.float64)
        most = finite.max()
        total = most + np.log(np.exp(finite - most).sum())
        count = self._params.logprobs or 0
        top = _sorted(logits, _above(logits, count))[:count] if count else np.arange(0)
        return {
            **self._named(token, float(logits[token] - total)),
            "top": [self._named(int(one), float(logits[one] - total)) for one in top if np.isfinite(logits[one])],
        }

    def _named(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._tokenizer.decode([token], skip_special_tokens=False)
        piece = self._tokenizer.id_to_token(token) or ""
        known = byte_of()
        whole = all(letter in known for letter in piece)
        each = [known[letter] for letter in piece] if whole else list(text.encode())
        return {"token": text, "bytes": each, "logprob": logprob}

    def rest(self) -> Any:
        """What was held back, where no more comes: also letters of bytes that are no whole letter."""
        said = self._rest()
        return {"text": said, "tokens": []} if self._params.logprobs is not None else said

    def _rest(self) -> str:
        broken: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)[self._written :] if self._ids else ""
        said, self._held, self._ids = self._held + broken, "", []
        at = self._stop_in(said)  # letters before a broken one may have been held back with it
        return said if at < 0 else said[:at]

    def _stop_in(self, text: str) -> int:
        """Where the first stop is in a text; −1 where there is none."""
        return min((place for stop in self._stops if (place := text.find(stop)) >= 0), default=-1)

    def _certain(self) -> str:
        """Letters that no stop begins in."""
        longest = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:size]):
                    longest = size
                    break
        end = len(self._held) - longest
        said, self._held = self._held[:end], self._held[end:]
        return said

    def _token(self, output: Array) -> int:
        asked = self._params
        logits = output
        if len(self._biased) or self._counts:
            logits = logits.astype(np.float64)
            logits[self._biased] += self._bias
            for token, count in self._counts.items():
                logits[token] -= asked.presence_penalty + asked.frequency_penalty * count
        if asked.temperature < 1e-5 or asked.top_p <= 0 or asked.top_k == 1:
            return int(np.argmax(logits))
        among = np.arange(len(logits))
        if 0 < asked.top_k < len(logits):
            among = np.sort(np.argpartition(logits, -asked.top_k)[-asked.top_k :])
        scaled = logits[among].astype(np.float64) / asked.temperature
        shares = np.exp(scaled - scaled.max())
        shares /= shares.sum()
        if asked.top_p < 1:
            order = likeliest(shares, asked.top_p)
            kept = order[: int(np.searchsorted(np.cumsum(shares[order]), asked.top_p)) + 1]
            among, shares = among[kept], shares[kept] / shares[kept].sum()
        place = int(np.searchsorted(np.cumsum(shares), self._random.random(), side="right"))
        return int(among[min(place, len(among) - 1)])
