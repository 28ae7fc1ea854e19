"""A network of a Hugging Face folder with the head that it came with, as ``%maas import`` makes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.networks.with_head import WithHead
from maas_magics.core.tasks.base import Task


def hf_head(
    features: NetworkInputs,
    outputs: int,
    *,
    task: Task,
    base: str = "",
    digest: str = "",
    revision: str = "",
    config: str = "{}",
    kind: Literal["text", "words", "image"] = "text",
    order: Sequence[int] = (),
) -> nn.Module:
    """The whole network of a folder over one column.

    Parameters
    ----------
    features : NetworkInputs
        The column.
    outputs : int
        Numbers of an answer; the network's own.
    task : Task
        What it answers.
    base : str
        The folder, or a name on the hub.
    digest : str
        SHA-256 of its weights.
    revision : str
        Commit that it was fetched at.
    config : str
        Its configuration as JSON.
    kind : {"text", "words", "image"}
        Of the column.
    order : sequence of int
        See `WithHead`.
    """
    return WithHead(features.ports[0], json.loads(config), base, order)


def recipe(rows: int, task: Task) -> Recipe:
    """None is needed: it is not trained.

    Parameters
    ----------
    rows : int
        Not used.
    task : Task
        Not used.
    """
    return Recipe()


def pretrained(ref: str) -> dict[str, Any]:
    """Refuse to train it.

    Parameters
    ----------
    ref : str
        A folder, or a name on the hub.

    Raises
    ------
    OptionError
        Always.
    """
    raise OptionError("hf_head is what %maas import makes of a folder; it is not trained.", f"--model hf:{ref}")


architectures.register("hf_head")(Architecture("ports", hf_head, recipe, pretrained))
