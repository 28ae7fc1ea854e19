"""Which token is chosen and told, and where a text ends: against plain ways to say the same."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from writing import VERSES, feature

from maas_magics.core.features.tokens import tokenizer
from maas_magics.core.runtimes.text.sampler import TextSampler, likeliest

FEATURE = feature()
TEXTS = [*VERSES[:3], "aaaaabaaaab", "\n\n\nx\n\n", "häuser 日本語 naïve 👩‍👩‍👧 and more"]


@pytest.mark.parametrize("size", [5, 300, 20_000])
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_the_likeliest_are_those_of_a_whole_sort(size: int, scale: float) -> None:
    draw = np.random.default_rng(size)
    for turn in range(8):
        logits = draw.normal(size=size) * scale
        logits = np.round(logits) if turn % 2 else logits  # many that are equal
        shares = np.exp(logits) / np.exp(logits).sum()
        whole = np.argsort(-shares, kind="stable")
        for enough in (1e-4, 0.5, 0.9, 0.999999, 1.0):
            found = likeliest(shares, enough)
            assert (found == whole[: len(found)]).all()
            assert len(found) == size or shares[found].sum() >= enough


def written(ids: list[int], stops: list[str], **params: Any) -> tuple[str, str]:
    """What is said of tokens that are as good as certain, chunk by chunk; and why it ended."""
    sampler, said = TextSampler(FEATURE, {"stop": stops, **params}), []
    for token in ids:
        logits = np.full(400, -50.0, dtype=np.float32)
        logits[token] = 50.0
        choice = sampler.choose(logits)
        said.append(choice.delta or "")
        if choice.finish:
            return "".join(said), choice.finish
    return "".join([*said, str(sampler.rest())]), ""


def test_a_text_ends_before_its_stop_wherever_tokens_and_letters_part() -> None:
    known, draw = tokenizer(FEATURE.tokenizer, 0), random.Random(0)
    for turn in range(600):
        ids = known.encode(draw.choice(TEXTS)).ids if turn % 2 else [draw.randrange(3, 400) for _ in range(12)]
        whole = known.decode(ids, skip_special_tokens=True)
        at = draw.randrange(len(whole))
        stop = whole[at : at + draw.randrange(1, 6)]
        assert written(ids, []) == (whole, "")
        assert written(ids, ["never there"]) == (whole, "")
        if "\ufffd" not in stop:  # half a letter is none yet
            said, end = written(ids, [stop])
            assert said == whole.partition(stop)[0]
            assert end == "stop" or whole.endswith("\ufffd")  # of what a broken letter held back


def test_logprobs_are_those_of_all_tokens_and_a_bias_is_no_part_of_them() -> None:
    draw = np.random.default_rng(1)
    for count in (0, 1, 7, 20):
        logits = draw.normal(size=400).astype(np.float32) * 4
        sampler = TextSampler(FEATURE, {"logprobs": count, "logit_bias": {"9": 100.0, "8": -100.0}})
        (told,) = sampler.choose(logits).delta["tokens"]
        wanted = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
        assert told["logprob"] == pytest.approx(wanted[9], abs=1e-6)
        assert [one["logprob"] for one in told["top"]] == pytest.approx(sorted(wanted)[::-1][:count], abs=1e-6)
