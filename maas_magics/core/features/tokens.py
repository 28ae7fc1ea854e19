"""Tokenizers: texts as ids of tokens, trained on a column or as a pretrained network brings them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from maas_magics.api.errors import DataError, require
from maas_magics.core.data.arrow import Array

if TYPE_CHECKING:
    from tokenizers import Encoding

PAD, UNKNOWN = "[PAD]", "[UNK]"

VOCABULARY = 8_000
"""Tokens of a tokenizer that is trained on a column, at most."""

LEAST = 2
"""Times that a pair of tokens must occur to become a token."""

_EMOJI = r"\p{Extended_Pictographic}[\x{FE0F}\x{1F3FB}-\x{1F3FF}\x{E0020}-\x{E007F}]*"

ALONE = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]"
    rf"|{_EMOJI}(?:\x{{200D}}{_EMOJI})*|[\x{{1F1E6}}-\x{{1F1FF}}]{{2}}|[0-9#*]\x{{FE0F}}?\x{{20E3}}"
)
"""What is a word by itself: a letter of some scripts, and an emoji, with whatever is joined to it (as families are),
its colour, or the two letters of a flag."""


def train_tokenizer(texts: Iterable[str], size: int = VOCABULARY, lowercase: bool = True) -> str:
    """A byte-pair tokenizer of some texts (Sennrich et al. 2016), as the JSON of `tokenizer.json`.

    Texts are normalised to NFKC, and lower case, and split at white space and punctuation. Id 0 is padding, id 1 a
    character that no text had.

    Parameters
    ----------
    texts : iterable of str
        Training rows of a column of texts.
    size : int
        Tokens at most.
    lowercase : bool
        Whether upper and lower case are one: names are told by it.
    """
    require("tokenizers", "tokenizers", "Text", "maas-magics[text]")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(unk_token=UNKNOWN))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])])
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=LEAST, special_tokens=[PAD, UNKNOWN], show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return str(made.to_str())


def train_byte_tokenizer(texts: Iterable[str], size: int, special: Sequence[str]) -> str:
    """A byte-pair tokenizer of bytes, which loses nothing of any text, as the JSON of `tokenizer.json`.

    Words keep the space before them, and every digit is a token (as in Radford et al. 2019, and in SmolLM's tokenizer).

    Parameters
    ----------
    texts : iterable of str
        Training texts.
    size : int
        Tokens at most, 256 and the special ones at least.
    special : sequence of str
        Tokens that stand for no letters; their ids are the first ones.
    """
    require("tokenizers", "tokenizers", "Text", "maas-magics[text]")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=LEAST,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return str(made.to_str())


@lru_cache(maxsize=16)
def tokenizer(source: str, longest: int) -> Any:
    """A tokenizer of its JSON, which cuts texts at ``longest`` tokens, special ones included, and pads nothing.

    Raises
    ------
    DataError
        If it is not the JSON of a tokenizer.
    """
    require("tokenizers", "tokenizers", "Text", "maas-magics[text]")
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_str(source)
    except Exception as error:  # the library has no class for its errors
        raise DataError(f"The tokenizer cannot be read: {error}", "tokenizer.json of the tokenizers library") from error
    made.no_padding()
    made.no_truncation()
    if longest:
        made.enable_truncation(max_length=longest)
    return made


def pieces() -> Any:
    """A stream that says which letters each token adds to those before it; special tokens add none."""
    require("tokenizers", "tokenizers", "Text", "maas-magics[text]")
    from tokenizers.decoders import DecodeStream

    return DecodeStream(skip_special_tokens=True)


def padding_id(source: str) -> int:
    """Id of the padding token that a tokenizer's JSON names, or that has a usual name.

    Raises
    ------
    DataError
        If it has none.
    """
    named = (json.loads(source).get("padding") or {}).get("pad_token")
    known = tokenizer(source, 0)
    for token in (named, PAD, "<pad>", "<|endoftext|>", "</s>"):
        found = known.token_to_id(token) if token else None
        if found is not None:
            return int(found)
    raise DataError("The tokenizer has no padding token.", 'Give it one: [PAD] in its "added_tokens".')


def pairing(source: str) -> tuple[tuple[int, ...], bool] | None:
    """How a tokenizer puts two texts in a row: ids between them, and whether it numbers the texts.

    The ids are those behind the first text's own end; the token that begins the second is left out. None where it
    does it in another way, or marks no beginnings.
    """
    known = tokenizer(source, 0)
    one, other, both = known.encode("a"), known.encode("b"), known.encode("a", "b")
    tail = other.ids[1:]
    middle = both.ids[len(one.ids) : len(both.ids) - len(tail)]
    if other.special_tokens_mask[:1] != [1] or both.ids != [*one.ids, *middle, *tail]:
        return None
    return tuple(middle), any(both.type_ids)


def token_ids(source: str, texts: Sequence[str], longest: int) -> list[list[int]]:
    """Ids of the tokens of some texts, special tokens included."""
    return [each.ids for each in _encoded(source, texts, longest)]


def window_ids(source: str, texts: Sequence[str], longest: int, windows: int) -> list[list[int]]:
    """The same of some windows one after the other, each of ``longest`` tokens but the last, special ones included."""
    return [
        [one for part in (each, *each.overflowing[: windows - 1]) for one in part.ids]
        for each in _encoded(source, texts, longest)
    ]


def token_counts(source: str, texts: Sequence[str]) -> list[int]:
    """Tokens of some texts that nothing is cut off."""
    return [len(each.ids) for each in _encoded(source, texts, 0)]


def for_words(source: str) -> str:
    """A tokenizer's JSON for words one by one: where it tells by the space before them that words begin, they have one.

    Parameters
    ----------
    source : str
        The JSON of a tokenizer, such as one of bytes, as RoBERTa's.
    """
    told = json.loads(source)
    steps = told.get("pre_tokenizer") or {}
    for step in (steps, *steps.get("pretokenizers", ())):
        if step.get("type") == "ByteLevel":
            step["add_prefix_space"] = True
    return json.dumps(told)


def raw_texts(raw: Array) -> list[str]:
    """Texts of a raw array (n, 1), which may be bytes."""
    return [text.decode(errors="replace") if isinstance(text, bytes) else text for text in raw.ravel()]


@lru_cache(maxsize=1)
def _splitter() -> Any:
    require("tokenizers", "tokenizers", "Text", "maas-magics[text]")
    from tokenizers import Regex, pre_tokenizers

    alone = pre_tokenizers.Split(Regex(ALONE), "isolated")
    return pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), alone])


def words_of(text: str) -> list[tuple[str, int, int]]:
    """Words of a text, punctuation by itself, with where they begin and end: by letters, whatever the tokenizer is.

    Parameters
    ----------
    text : str
        Any text.
    """
    return [(word, start, end) for word, (start, end) in _splitter().pre_tokenize_str(text)]


def word_tokens(source: str, rows: Sequence[Sequence[str]], longest: int) -> list[tuple[list[int], list[int | None]]]:
    """Ids of the tokens of some lists of words, and the word that each token is of; None of a special one."""
    made = tokenizer(source, longest).encode_batch(  # the fast one does not say which word a token is of
        [list(words) for words in rows], is_pretokenized=True
    )
    return [(each.ids, each.word_ids) for each in made]


def _encoded(source: str, texts: Sequence[str], longest: int) -> list[Encoding]:
    found: list[Encoding] = tokenizer(source, longest).encode_batch_fast(list(texts))
    return found
