"""A network with an answer for each word of a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from maas_magics.api.errors import OptionError
from maas_magics.core.features.modalities.words import NO_WORD
from maas_magics.core.features.port import Port
from maas_magics.core.features.processor import NetworkInputs
from maas_magics.core.networks.embedder import Embedder
from maas_magics.core.networks.encoders import TextCNN, encoder_of
from maas_magics.core.networks.fusion import Fusion, is_pretrained, parameter_groups
from maas_magics.core.networks.parted import Parted

Text = Callable[[Port], nn.Module]

SURE = 12.0
"""Logit of 'O' for a word that the network does not get to see, where others have 0."""

NEVER = 1e4
"""Logit of what is, or is not, a word at all."""

OUTSIDE = 1
"""Place of the tag 'O' among the outputs, behind that of no word."""


class Tagger(nn.Module):
    """An encoder's vectors of the first token of each word, and a layer that answers from them.

    Parameters
    ----------
    features : NetworkInputs
        One port of words, and nothing else.
    tags : int
        Different tags; 'O' is the first.
    text : callable
        From a port of ids to an encoder, which has ``states`` of their ``width``.
    hidden : int
        Width of a layer before the answer; 0 for none.
    dropout : float
    faster : float
        Times the learning rate at which all but a pretrained encoder learns.
    """

    def __init__(
        self, features: NetworkInputs, tags: int, text: Text, hidden: int = 0, dropout: float = 0.2, faster: float = 1.0
    ) -> None:
        super().__init__()
        kinds = [port.kind for port in features.ports]
        if kinds != ["words"] or features.numeric or features.categories:
            raise OptionError(
                "Tags are predicted from one column of lists of words; there are other columns as well.",
                "--features COLUMN keeps that one alone.",
            )
        (port,) = features.ports
        self.longest, self.faster = port.longest, faster
        self.encoder = text(msgspec.structs.replace(port, kind="text", shape=(-1,)))
        self.dropout = nn.Dropout(dropout)
        width = cast(int, self.encoder.width)
        self.hidden = nn.Linear(width, hidden) if hidden else None
        self.head = nn.Linear(hidden or width, tags)

    def initialise(self, numeric: Tensor, categorical: Tensor, words: Tensor) -> None:
        """Read pretrained weights."""
        if is_pretrained(self.encoder):
            self.encoder.initialise()  # type: ignore[operator]

    def forward(self, numeric: Tensor, categorical: Tensor, words: Tensor) -> Tensor:
        """Outputs (n, words, 1 + tags) of ids and places of words (n, 2, tokens): of no word, and of each tag."""
        return self.answers(*self.first_tokens(words))

    def first_tokens(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Place of each word's first token, int64 (n, words), and the encoder's vector of it, (n, words, width)."""
        ids, first = words[:, 0], words[:, 1]
        states = self.encoder.states(ids[:, : self.longest])  # type: ignore[operator]
        return first, states.gather(1, first.clamp(min=0).unsqueeze(-1).expand(-1, -1, states.shape[-1]))

    def answers(self, first: Tensor, x: Tensor) -> Tensor:
        """Outputs (n, words, 1 + tags) of what `first_tokens` made."""
        if self.hidden is not None:
            x = self.hidden(self.dropout(x)).relu()
        return tag_outputs(self.head(self.dropout(x)), first.unsqueeze(-1))

    def parameter_groups(self) -> list[dict[str, object]]:
        """Weights of layers decay; embeddings, norms and biases do not. What is new may learn faster."""
        return parameter_groups(self, [self.encoder], self.faster)

    def parted(self) -> Parted:
        """Its encoder, and what answers from the vectors of words."""
        return Parted(_FirstTokens(self), _BehindWords(self), (float(NO_WORD), 0.0))


class _FirstTokens(nn.Module):
    """What a tagger makes of words before it answers."""

    def __init__(self, whole: Tagger) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, numeric: Tensor, categorical: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        return self.whole.first_tokens(words)


class _BehindWords(Tagger):
    """A tagger behind its encoder, whose other layers it shares, by the same names."""

    def __init__(self, whole: Tagger) -> None:
        nn.Module.__init__(self)
        self.dropout, self.hidden, self.head = whole.dropout, whole.hidden, whole.head

    def forward(self, first: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.answers(first, x)

    def parameter_groups(self) -> list[dict[str, object]]:
        return parameter_groups(self, [], 1.0)  # all of it is new


def tag_outputs(logits: Tensor, first: Tensor) -> Tensor:
    """Outputs (n, words, 1 + tags): of no word, and of each tag.

    Parameters
    ----------
    logits : Tensor, shape (n, words, tags)
        Of each tag, 'O' the first.
    first : Tensor of int64, shape (n, words, 1)
        Place of each word's first token; below 0 where there is no word, or the network does not get to see it.
    """
    outside = torch.zeros_like(logits[:1, :1])
    outside[..., OUTSIDE - 1] = SURE
    logits = torch.where(first >= 0, logits, outside)
    none = torch.where(first == -1, NEVER, -NEVER).to(logits.dtype)
    return torch.cat([none, logits], dim=-1)


def over_texts(
    features: NetworkInputs, outputs: int, of_words: bool, text: Text = TextCNN, hidden: int = 128,
    dropout: float = 0.2, faster: float = 1.0, *, of_pairs: bool = False,
    compare: bool = False,
) -> nn.Module:  # fmt: skip
    """A network over texts and other columns with an answer a row, or over lists of words with one for each.

    Where rows are pairs, it makes vectors of the values of one column.

    Parameters
    ----------
    features : NetworkInputs
        The columns.
    outputs : int
        Numbers of an answer.
    of_words : bool
        Whether each word has one.
    text : callable
        From a port of ids to an encoder.
    hidden : int
        Width of the layer before the answer; 0 answers from the vectors.
    dropout : float
        Probability of dropping a number of a vector.
    faster : float
        Times the learning rate at which all but pretrained encoders learn.
    of_pairs : bool
        Whether rows are pairs; vectors are then as wide as ``hidden`` says.
    compare : bool
        Whether two columns of texts are read by one encoder and compared; see `Fusion`.

    Raises
    ------
    OptionError
        If there are lists of words where answers are of rows, or no list of words where they are of words.
    """
    if of_words:
        return Tagger(features, outputs, text, hidden, dropout, faster)
    if any(port.kind == "words" for port in features.ports):
        raise OptionError(
            "Lists of words have a tag for each word as their target.", "Join them to texts: df[column].str.join(' ')"
        )

    def encoder(port: Port) -> nn.Module:
        return encoder_of(port, text)

    if of_pairs:
        return Embedder(features, encoder, hidden, dropout, faster)
    return Fusion(features, outputs, encoder, hidden, dropout, faster, compare)
