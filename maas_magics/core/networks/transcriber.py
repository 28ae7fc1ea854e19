"""Networks of transformers that write down what they hear: Whisper, and those distilled from it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from maas_magics.api.errors import ModelError
from maas_magics.core.networks.hub import open_folder
from maas_magics.core.networks.pretrained import built, read_model

AUTO = "AutoModelForSpeechSeq2Seq"
"""Class of transformers that makes such a network."""

UNTIMED = -1.0
"""In the place of seconds that are not known."""


class Transcriber(nn.Module):
    """A network that writes token after token, as ``generate`` of transformers chooses them, always the likeliest.

    A recording of more than a window is heard window by window, each from where the last one's text ended, as
    transformers does it (the sequential way of Radford et al. 2022, 3.8).

    Parameters
    ----------
    config : mapping
        Its configuration, as in ``config.json``.
    generation : mapping
        What it writes by, as in ``generation_config.json``.
    base : str
        Where its weights are; see `initialise`.
    times : {"", "words", "segments"}
        What the answer has seconds of.
    """

    def __init__(self, config: Mapping[str, Any], generation: Mapping[str, Any], base: str, times: str) -> None:
        super().__init__()
        from transformers import GenerationConfig

        self.base, self.times = base, times
        self.inner = built(config, AUTO)
        self.inner.generation_config = GenerationConfig.from_dict(dict(generation))
        self.window = 2 * int(self.inner.config.max_source_positions)
        """Frames that are heard at once."""

    def initialise(self, *rows: Tensor) -> None:
        """Read its weights.

        Raises
        ------
        ModelError
            If the folder lacks some.
        """
        loaded, missing = read_model(open_folder(self.base), AUTO)
        if missing:
            raise ModelError(f"{self.base} lacks weights that its configuration requires: {missing[0]}.", "")
        self.inner.load_state_dict(loaded.state_dict())

    def forward(self, numeric: Tensor, categorical: Tensor, x: Tensor) -> Tensor:
        """Tokens of recordings, float32 (n, tokens, 3): 1 + each id and its seconds, from and to; 0 behind the last.

        Parameters
        ----------
        numeric : Tensor
            Not used.
        categorical : Tensor
            Not used.
        x : Tensor, shape (n, bands + 1, frames)
            Spectrograms, and in the last band whether a frame is in the recording.
        """
        mel, there = x[:, :-1], x[:, -1] > 0.5
        heard = there.any(1)
        found: list[list[list[float]]] = [[] for _ in x]
        if heard.any():
            rows = heard.nonzero()[:, 0].tolist()
            for row, tokens in zip(rows, self._written(mel[heard], there[heard].long()), strict=True):
                found[row] = tokens
        most = max(1, *map(len, found))
        return torch.tensor([[*tokens, *[[0.0, UNTIMED, UNTIMED]] * (most - len(tokens))] for tokens in found])

    def write(self, x: Tensor, put: Callable[[int], None]) -> None:
        """Write down one recording that is heard at once, without seconds: each token goes to ``put`` as it is chosen.

        Parameters
        ----------
        x : Tensor, shape (1, bands + 1, frames)
            As of `forward`.
        put : callable
            Gets ids; may raise to end it.
        """
        from transformers.generation.streamers import BaseStreamer

        class Streamer(BaseStreamer):
            def put(self, value: Tensor) -> None:
                if value.dim() == 1:  # else what it begins with
                    put(int(value))

            def end(self) -> None:
                pass

        mel, there = x[:, :-1], (x[:, -1] > 0.5).long()
        with _suppress_warnings():
            self.inner.generate(
                mel, attention_mask=there, return_timestamps=False, do_sample=False, streamer=Streamer()
            )

    def _written(self, mel: Tensor, there: Tensor) -> list[list[list[float]]]:
        long = mel.shape[-1] > self.window
        options: dict[str, Any] = {"return_token_timestamps": True} if self.times == "words" else {}
        with _suppress_warnings():
            made = self.inner.generate(
                mel,
                attention_mask=there,
                return_segments=True,
                return_timestamps=long or bool(self.times),
                do_sample=False,
                **options,
            )
        return [_tokens(segments, self.times) for segments in made["segments"]]


@contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Keep to itself what numpy, torch and transformers say of how transformers calls them."""
    logger = logging.getLogger("transformers.generation.utils")

    def other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Passing `generation_config`")

    logger.addFilter(other)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.removeFilter(other)


def _tokens(segments: Sequence[Mapping[str, Any]], times: str) -> list[list[float]]:
    """Tokens of a recording's segments: those of text and of time, as they were written."""
    found: list[list[float]] = []
    last = 0.0
    for segment in segments:
        ids = segment["tokens"].tolist()
        start, end = (float(segment[name]) for name in ("start", "end")) if times == "segments" else (UNTIMED, UNTIMED)
        spans = [[start, end]] * len(ids)
        if times == "words":
            ends = cast(list[float], segment["token_timestamps"].tolist())
            spans = [[before, after] for before, after in zip([last, *ends], ends, strict=False)]
            last = ends[-1] if ends else last
        found += [[1.0 + token, *span] for token, span in zip(ids, spans, strict=True)]
    return found
