"""Sentences about columns: what was left out, and what else their values may have been meant as."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import as_text
from maas_magics.core.data.files.dialect import WORDS as MISSING
from maas_magics.core.data.looks import AS_TEXTS, look
from maas_magics.core.data.origin import as_missing, odd_missing
from maas_magics.core.data.units import odd_ones
from maas_magics.core.data.values import FEW, MIXED, number_of

WORDS = 3
"""Words a text, on average, from which a column is taken to hold sentences."""

MISSING_WORDS = frozenset({"NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "?", "-"})
"""Texts that are worth a note, for they may mean *missing*."""

SENTENCES = "holds free text"
ONE_EACH = " Each is taken as one category, not for its words, and a text that was not learnt carries no information."
TO_NUMBERS = "Turn them into numbers first: TfidfVectorizer of scikit-learn with .toarray(), or an array of embeddings."


def nothing_of_use(said: Sequence[str]) -> DataError:
    """Why no column can be learnt from, with the notes ``said`` on the columns."""
    for text in said:
        if SENTENCES in text:
            return DataError(f"No column is usable as a feature. {text.removesuffix(' ' + TO_NUMBERS)}", TO_NUMBERS)
        if AS_TEXTS in text:
            told, _, fix = text.partition(" and is left out. ")
            return DataError(f"No column is usable as a feature. {told} and is left out.", fix)
    return DataError(
        "No column is usable as a feature: each is empty, constant, or names single rows.",
        "Give at least one column that varies.",
    )


def tell_words(where: str, texts: Iterable[object], notify: Callable[[str], None]) -> None:
    """Say so where a text that often stands for a missing value was learnt as what it is."""
    texts = list(texts)
    odd = [str(text) for text in texts if text in MISSING_WORDS]
    if odd:
        notify(f"{where} has {', '.join(map(repr, odd[:3]))} as a text like any other. {as_missing(odd[0])}")


def tell_labels(names: Sequence[str], classes: Sequence[object], notify: Callable[[str], None]) -> None:
    """Say so where labels may have been meant as something else: as missing, or as quantities."""
    where = f"The target {', '.join(names)!r}"
    tell_words(where, classes, notify)
    texts = [label for label in classes if isinstance(label, str)]
    if len(names) > 1 or len(texts) <= FEW:
        return
    found, odd = look(names[0], texts), odd_ones(dict.fromkeys(texts, 1))
    if found is not None:
        notify(f"{where} {found}; each is taken as a label. {found.fix}")
    elif odd is not None:
        share = f"all but {odd.rows:,} of its {odd.present:,} labels are numbers: not {odd}"
        notify(f"{where} holds texts; {share}. {odd_missing(names[0], odd.texts)}")


def meant(name: str, counted: Mapping[str, int]) -> tuple[str, str]:
    """What texts were meant as where they are not names of categories, as the rest of a sentence, and what to do.

    Both are empty where they are.
    """
    rows = sum(counted.values())
    words = sum(len(text.split()) * number for text, number in counted.items())
    found = look(name, (text for text in counted if text not in MISSING_WORDS))
    if found is not None:
        return str(found), found.fix
    if (odd := odd_ones(counted)) is not None:
        share = f"all but {odd.rows:,} of {odd.present:,} values are numbers"
        return f"holds numbers{AS_TEXTS} ({share}: not {odd})", odd_missing(name, odd.texts)
    if not rows or words < WORDS * rows:
        return "", ""
    example = max(counted, key=lambda text: (len(text.split()), text))
    shown = example if len(example) <= 40 else example[:39] + "…"
    return f"{SENTENCES} (sentences such as {shown!r})", TO_NUMBERS


def leave_out(name: str, counted: Mapping[str, int], why: str, notify: Callable[[str], None]) -> None:
    """Say that a column of texts is left out, and what else it might have been."""
    what, fix = meant(name, counted)
    if what:
        notify(f"Column {name!r} {what}, {why}, and is left out. {fix}")
    else:
        notify(f"Column {name!r} {why} and is left out.")


def mostly_numbers(field: pa.Field) -> bool:
    """Whether a column of texts is one of objects most of which were numbers."""
    return (field.metadata or {}).get(MIXED) == b"numbers"


def tell_mixed(name: str, values: pa.ChunkedArray, notify: Callable[[str], None]) -> None:
    """Say which texts among numbers count as missing."""
    text = as_text(values)
    odd = [word for word in pc.unique(text).to_pylist() if word is not None and number_of(word) is None]
    tell_odd(name, [word for word in odd if word not in MISSING] or odd, notify)


def tell_odd(name: str, odd: Sequence[str], notify: Callable[[str], None]) -> None:
    """Notify which texts among numbers count as missing, if there are any."""
    if not odd:
        return
    shown = ", ".join(map(repr, odd[:3])) + (f" and {len(odd) - 3:,} more" if len(odd) > 3 else "")
    notify(f"Column {name!r} holds texts among its numbers ({shown}); they count as missing.")
