"""What is said in one recording, as it is written down: the tokens of a transcription, one by one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from maas_magics.api.requests import GenerateRequest
from maas_magics.api.stream import Chunk
from maas_magics.core.chunks import ChunkReader, Chunks, check
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.media import opening, sent_bytes
from maas_magics.core.features.module import entered
from maas_magics.core.inference.loader import Loader
from maas_magics.core.model import Model
from maas_magics.core.networks.transcriber import Transcriber
from maas_magics.core.runtimes import Choice
from maas_magics.core.tasks.transcription import Transcription

END = -1
"""In the place of a token: nothing more is said."""


class _Left(Exception):
    """No one reads any more."""


class Writing:
    """One recording that is written down in a thread of its own, which waits until its next token is wanted.

    Parameters
    ----------
    net : Transcriber
    x : Tensor, shape (1, bands + 1, frames)
        See `Transcriber.forward`.
    """

    size = 0

    def __init__(self, net: Transcriber, x: torch.Tensor) -> None:
        self._tokens: queue.Queue[int | Exception] = queue.Queue(1)
        self._closed = False
        self._thread = threading.Thread(target=self._run, args=(net, x), name="maas-magics-hear", daemon=True)
        self._thread.start()

    def _run(self, net: Transcriber, x: torch.Tensor) -> None:
        last: int | Exception = END
        try:
            with torch.inference_mode():
                net.write(x, self._put)
        except _Left:
            return
        except Exception as error:
            last = error
        if not self._closed:
            self._tokens.put(last)

    def _put(self, token: int) -> None:
        if self._closed:
            raise _Left
        self._tokens.put(token)

    def next(self) -> int:
        """The next token, waited for."""
        found = self._tokens.get()
        if isinstance(found, Exception):
            raise found
        return found

    def feed(self, value: Any) -> None:
        """The network takes its own tokens."""

    def close(self) -> None:
        """End the thread after the token that it writes."""
        self._closed = True
        try:
            self._tokens.get_nowait()  # room for the one that it may wait with
        except queue.Empty:
            return


class Letters:
    """The letters that each token adds.

    Parameters
    ----------
    answers : Transcription
    """

    def __init__(self, answers: Transcription) -> None:
        self._answers, self._said = answers, ""
        self._ids: list[int] = []

    def choose(self, output: Array) -> Choice:
        """What is certain of the text, with one token more."""
        token = int(output)
        if token == END:
            return Choice(token, self._fresh(certain=False) or None, "stop")
        self._ids.append(token)
        return Choice(token, self._fresh(certain=True) or None)

    def rest(self) -> str:
        """Letters that were held back, where no more tokens come."""
        return self._fresh(certain=False)

    def _fresh(self, *, certain: bool) -> str:
        row = np.zeros((1, max(1, len(self._ids)), 3), dtype=np.float32)
        row[0, : len(self._ids), 0] = np.array(self._ids, dtype=np.float32) + 1
        text = self._answers.texts(row)[0]
        text = text.rstrip("\ufffd") if certain else text  # bytes that are no whole letter yet
        fresh, self._said = text[len(self._said) :], max(self._said, text, key=len)
        return fresh


class Listening:
    """A model that writes down recordings, as a session that answers in several passes.

    Parameters
    ----------
    net : Transcriber
    answers : Transcription
    """

    slots = 1

    def __init__(self, net: Transcriber, answers: Transcription) -> None:
        self._net, self._answers = net, answers

    def sampler(self, params: Mapping[str, Any]) -> Letters:
        """Letters of the likeliest tokens, which takes no parameters."""
        return Letters(self._answers)

    def start(self, inputs: Sequence[Any]) -> Writing:
        """Begin to write down a spectrogram."""
        return Writing(self._net, inputs[0])

    def step(self, states: Sequence[Any]) -> Sequence[Array | None]:
        """The next token of each recording."""
        return [np.array(state.next()) for state in states]


def transcribed(request: GenerateRequest, loader: Loader) -> ChunkReader | None:
    """Begin to write down one recording; None where a model does something else, or answers seconds as well.

    A recording that is longer than what is heard at once is one chunk: its last words may be heard anew.

    Parameters
    ----------
    request : GenerateRequest
        ``data`` holds the bytes of one file.
    loader : Loader

    Raises
    ------
    DataError
        If it cannot be decoded.
    """
    predictor = loader.predictor(request.model)
    answers = predictor.answers
    if request.params or not isinstance(answers, Transcription) or answers.times:
        return None
    data = _recording(request.data, predictor.processor.names)
    if data is None:
        return None
    model = predictor.model
    if model is None or not isinstance(net := model.net, Transcriber):
        return None
    x = _spectrogram(model, data)
    if x.shape[-1] > net.window or not (x[:, -1] > 0.5).any():
        check(request)
        with torch.inference_mode():
            text = answers.texts(np.asarray(net(*[x[:, :0]] * 2, x)))[0]
        chunks = Chunks()
        chunks.put(Chunk(0, text, "stop"))
        return ChunkReader(chunks, predictor.ref)
    session = Listening(net, answers)
    loop = loader.watched(session, predictor.ref)
    return loop.generate([x], session.sampler({}), request.max_steps, request.timeout)  # type: ignore[list-item]


def _recording(data: Any, names: Sequence[str]) -> bytes | None:
    """The bytes of the only file that is given; None where something else is."""
    if isinstance(data, Mapping) and set(data) == set(names) and len(names) == 1:
        data = data[names[0]]
    if isinstance(data, str):
        found = sent_bytes(data)
        return None if found == data.encode(errors="surrogatepass") else found
    return bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else None


def _spectrogram(model: Model, data: bytes) -> torch.Tensor:
    raw = np.empty((1, 1), dtype=object)
    raw[0, 0] = data
    with torch.inference_mode(), opening(False):
        x: torch.Tensor = model.graph.transform(*entered(model.processor, [raw]))[-1]
    return x
