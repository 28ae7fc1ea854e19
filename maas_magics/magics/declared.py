"""Options of a line, from what a request declares of its fields."""

from __future__ import annotations

import typing
from collections.abc import Callable
from itertools import chain
from typing import Any, Literal

from maas_magics.api.options import Declared, declared_fields, is_union, without_none
from maas_magics.api.specs import METRIC_NAMES
from maas_magics.magics import completions as offers
from maas_magics.magics.options import (
    Convert,
    MagicOption,
    Offer,
    callback,
    commas,
    epoch_of,
    loss_of,
    pair,
    pairs,
    rate_of,
    real,
    real_or_auto,
    text,
    texts,
    typed,
    whole,
    whole_or_auto,
)
from maas_magics.magics.words import Names

LOSSES = ("mse", "l1", "huber", "smooth_l1", "cross_entropy", "bce")

READS: dict[str, Convert] = {
    "text": text,
    "quoted": typed,
    "choice": lambda names, word: names.choice(word),
    "commas": commas,
    "texts": texts,
    "pairs": pairs,
    "weights": lambda names, word: [(key, real(names, value)) for key, value in pairs(names, word)],
    "loss": loss_of,
    "data": Names.data,
    "rows": Names.rows,
    "callback": callback,
    "object": Names.thing,
}
"""What reads a word, by name."""

OFFERS: dict[str, Offer] = {
    "losses": lambda typed: [*LOSSES, *offers.functions(typed)],
    "metrics": lambda typed: [*METRIC_NAMES, *offers.functions(typed)],
    "optimizer_arguments": offers.arguments("--optimizer", "torch.optim"),
    "schedule_arguments": offers.arguments("--schedule", "torch.optim.lr_scheduler"),
}
"""What finds values to complete, by name, besides the functions of `offers`."""

PLAIN: dict[Any, Convert] = {str: text, int: whole, float: real, Any: typed}
"""What reads a word, by the type of the field."""

GATHERS: dict[Any, Callable[[list[Any]], Any]] = {
    str: " ".join,
    dict: dict,
    tuple: tuple,
    "pairs": lambda words: dict(chain(*words)),
    "weights": lambda words: dict(chain(*words)),
}
"""What several words come to, by what reads them, or by the type of the field."""


def options_of(*kinds: type[Any]) -> tuple[MagicOption, ...]:
    """Options of the fields of some structs, in order."""
    found = [field for kind in kinds for field in declared_fields(kind).values()]
    return tuple(_option(field) for field in found if field.option is not None and field.option.typed)


def _option(field: Declared) -> MagicOption:
    said = field.option
    assert said is not None
    of = without_none(field.type)
    kind = typing.get_origin(of) or of
    choices = typing.get_args(of) if kind is Literal else ()
    switch = said.reads == "switch" or kind is bool
    many = said.many or ("+" if kind in (dict, tuple) and not said.listed else "")
    return MagicOption(
        field.flags,
        said.help,
        READS[said.reads] if said.reads in READS else _reader(of),
        said.metavar,
        many,
        switch,
        offer=_offer(said.offer),
        choices=choices,
        required=field.needed and many != "?",
        listed=said.listed,
        listing=said.listing,
        name=field.name,
        gather=GATHERS.get(said.reads) or GATHERS.get(kind, list),
    )


def _offer(offer: str | tuple[str, ...]) -> Offer | tuple[str, ...]:
    if not offer or isinstance(offer, tuple):
        return offer or ()
    found: Offer = OFFERS.get(offer) or getattr(offers, offer)
    return found


def _reader(of: Any) -> Convert:
    """What reads a word of a type."""
    if is_union(of) and any(typing.get_origin(one) is Literal for one in typing.get_args(of)):
        return whole_or_auto if int in typing.get_args(of) else real_or_auto
    if typing.get_origin(of) is dict:
        return {float: rate_of, int: epoch_of}.get(typing.get_args(of)[1], pair)
    return PLAIN.get(of, text)
