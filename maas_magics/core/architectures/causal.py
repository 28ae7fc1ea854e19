"""Pretrained decoders of Hugging Face folders: Llama, Mistral, Qwen, and those in their form, such as SmolLM."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.networks.decoder import DecoderConfig
from maas_magics.core.networks.hub import open_folder
from maas_magics.core.networks.pretrained_decoder import PretrainedDecoder, prose_of
from maas_magics.core.tasks.base import Task


def causal(
    features: NetworkInputs,
    outputs: int,
    *,
    task: Task,
    base: str = "",
    digest: str = "",
    revision: str = "",
    config: str = "{}",
    block: int = 256,
) -> nn.Module:
    """The decoder of a folder.

    Parameters
    ----------
    features : NetworkInputs
        The text.
    outputs : int
        Not used.
    task : Task
        What is learnt; not used.
    base : str
        The folder, or a name on the hub.
    digest : str
        SHA-256 of its weights.
    revision : str
        Commit that it was fetched at.
    config : str
        Its configuration as JSON.
    block : int
        Tokens that are read at once in a training.
    """
    if not any(port.kind == "prose" for port in features.ports):
        raise OptionError("causal learns a language, from texts alone.", "--task language --model hf:FOLDER")
    return PretrainedDecoder(DecoderConfig.of(json.loads(config), base), base)


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW at 5e-5 falling to 0, in batches of 8 blocks.

    Parameters
    ----------
    rows : int
        Training blocks; not used.
    task : Task
        The fitted target; not used.
    """
    return Recipe(optimizer="AdamW", lr=5e-5, weight_decay=0.01, schedule="linear", batch_size=8, epochs=3, bf16=True)


def lora(rows: int, task: Task) -> Recipe:
    """As `recipe`, at the rate that adapters learn best at.

    Parameters
    ----------
    rows : int
        Training blocks.
    task : Task
        The fitted target.
    """
    return replace(recipe(rows, task), lr=1e-3, weight_decay=0.0)


def pretrained(ref: str) -> dict[str, Any]:
    """Hyperparameters that say which network it is.

    Parameters
    ----------
    ref : str
        A folder, or a name on the hub.

    Raises
    ------
    ModelError
        If there is no such folder, or it holds no decoder that is known here.
    """
    folder = open_folder(ref)
    DecoderConfig.of(folder.config, ref)
    return folder.named(ref)


def given(params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What its texts are read with.

    Parameters
    ----------
    params : dict of str to Any
        Hyperparameters of the architecture; ``base`` is the folder.
    """
    return {"prose": prose_of(open_folder(str(params["base"])))}


architectures.register("causal")(Architecture("prose", causal, recipe, pretrained, given, lora=lora))
