"""What is said in a recording, as a text; where a network knows them, with the seconds of words or of segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Decision, Link, Task, TaskName
from maas_magics.core.tasks.written import Span, byte_of, segments_of, words_of

if TYPE_CHECKING:
    from torch import Tensor, nn

Times: TypeAlias = Literal["", "words", "segments"]


@tasks.register("transcription")
class Transcription(Task, frozen=True, tag="transcription", dict=True):
    """A text for each recording. Decoded answers are tokens, float32 (n, tokens, 3): see `Transcriber`.

    Attributes
    ----------
    tokens : str
        What each token writes, in the letters that byte-level tokenizers have for bytes, with a space between them;
        nothing for those that are not written.
    first_time : int
        Id of the first of the tokens that say when something is said.
    times : {"", "words", "segments"}
        What the answer has seconds of.
    """

    tokens: str = ""
    first_time: int = 0
    times: Times = ""

    task: ClassVar[TaskName] = "transcription"
    usual_link: ClassVar[Link] = "identity"
    writes: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    decision: ClassVar[Decision] = ""
    usual_metrics: ClassVar[tuple[str, ...]] = ("wer", "cer")
    usual_monitor: ClassVar[str] = "wer"
    metric_example: ClassVar[str] = "a function"
    unexported: ClassVar[str] = "It writes token after token, which no file of one graph does"

    @classmethod
    def fit(cls, values: Array, names: tuple[str, ...], *, standardise: bool, ignored: int | None = None) -> Task:
        """None is fitted: such networks are imported."""
        raise OptionError("No network is trained to write down recordings here.", "%maas import FOLDER --as NAME")

    @cached_property
    def pieces(self) -> list[bytes]:
        """What each token writes."""
        letters = byte_of()
        return [bytes(letters[letter] for letter in token) for token in self.tokens.split(" ")]

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """The text, and words or segments as JSON."""
        text = TensorSpec("prediction", "BYTES", (-1, 1), "what is said")
        more = f"JSON: a list of {self.times} with their seconds, start and end"
        return (text, TensorSpec(self.times, "BYTES", (-1, 1), more)) if self.times else (text,)

    @property
    def outputs(self) -> int:
        """None that are learnt."""
        return 0

    def known(self, values: Array) -> Array:
        """Letters of texts, int64 (n, letters), 0 behind the end of a row."""
        texts = [str(value) for value in values]
        found = np.zeros((len(texts), max([1, *map(len, texts)])), dtype=np.int64)
        for row, text in enumerate(texts):
            found[row, : len(text)] = [ord(letter) for letter in text]
        return found

    def check_rows(self, values: Array) -> None:
        """Raise `DataError` where the target is not a text."""
        if values.ndim != 1 or not all(isinstance(value, str) for value in values.tolist()):
            raise DataError("The target is not a text a row, which the model answers.", "Give what is said.")

    def texts(self, decoded: Array) -> list[str]:
        """What is said in each recording.

        Parameters
        ----------
        decoded : ndarray, shape (n, tokens, 3)
            Decoded answers.
        """
        return [self._text(row[:, 0]) for row in decoded]

    def spans(self, decoded: Array) -> list[list[Span]]:
        """Words or segments of each recording, with their seconds.

        Parameters
        ----------
        decoded : ndarray, shape (n, tokens, 3)
            Decoded answers.
        """
        found = []
        for row in decoded:
            ids = row[row[:, 0] > 0, 0].astype(np.int64) - 1
            times = row[: len(ids), 1:].astype(np.float64).round(2)
            parts: list[list[tuple[bytes, float, float]]] = [[]]
            for token, (start, end) in zip(ids.tolist(), times.tolist(), strict=True):
                if token >= self.first_time:
                    parts.append([])
                elif piece := self._piece(token):
                    parts[-1].append((piece, start, end))
            found.append((words_of if self.times == "words" else segments_of)(parts))
        return found

    def _text(self, tokens: Array) -> str:
        written = b"".join(self._piece(int(token) - 1) for token in tokens if token > 0)
        return written.decode("utf-8", errors="replace").strip()

    def _piece(self, token: int) -> bytes:
        return self.pieces[token] if token < min(self.first_time, len(self.pieces)) else b""

    # --- as tensors ---

    def decoder(self) -> nn.Module:
        """Tokens, as they are."""
        from maas_magics.core.tasks.decode import AsTheyAre

        return AsTheyAre()

    def table(self, decoded: Tensor) -> Tensor:
        """Tokens, (n, tokens, 3)."""
        return decoded

    def constant_table(self, known: Tensor) -> Tensor:
        """Nothing is said."""
        return known.new_zeros((len(known), 1, 3)).float()

    def metrics(self) -> Mapping[str, Callable[..., float]]:
        """Errors for each word, and for each letter, that is said."""
        from maas_magics.core.tasks.errors_of_words import ErrorRate

        return {"wer": ErrorRate(self.texts, str.split), "cer": ErrorRate(self.texts, list)}

    def torchmetrics_arguments(self) -> dict[str, Any]:
        """None: its classes take texts."""
        raise OptionError("Classes of torchmetrics take texts, which tokens are not.", "--metrics wer,cer")


def tokens_of(vocabulary: Mapping[str, int], added: Sequence[int]) -> str:
    """What `Transcription.tokens` holds.

    Parameters
    ----------
    vocabulary : mapping of str to int
        Tokens of a byte-level tokenizer, in its letters for bytes, by their ids.
    added : sequence of int
        Ids of tokens that are not written.
    """
    letters, left = byte_of(), set(added)
    made = [""] * (max(vocabulary.values(), default=-1) + 1)
    for token, place in vocabulary.items():
        if place not in left and all(letter in letters for letter in token):
            made[place] = token
    return " ".join(made)
