"""Pipelines of diffusers that draw from captions, as they are."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.networks.diffusion import Diffusion
from maas_magics.core.tasks.base import Task


def diffusers(
    features: NetworkInputs,
    outputs: int,
    *,
    task: Task,
    base: str = "",
    digest: str = "",
    revision: str = "",
    config: str = "{}",
    words: int = 77,
) -> nn.Module:
    """Text encoder, denoiser and autoencoder of a folder.

    Parameters
    ----------
    features : NetworkInputs
        The caption, and what a sampler hands on.
    outputs : int
        Not used.
    task : Task
        What it answers; not used.
    base : str
        The folder, or a name on the hub.
    digest : str
        SHA-256 of its weights.
    revision : str
        Commit that it was fetched at.
    config : str
        Configurations of its parts as JSON.
    words : int
        Tokens of a caption.
    """
    return Diffusion(json.loads(config), base)


def recipe(rows: int, task: Task) -> Recipe:
    """None that is used: pipelines are imported, and not trained.

    Parameters
    ----------
    rows : int
        Training rows; not used.
    task : Task
        The fitted target; not used.
    """
    return Recipe()


def pretrained(ref: str) -> dict[str, Any]:
    """None: pipelines are imported, and not trained.

    Parameters
    ----------
    ref : str
        A folder, or a name on the hub.

    Raises
    ------
    OptionError
        Always.
    """
    raise OptionError("A pipeline of diffusers is imported, and not trained here.", f"%maas import {ref} --as NAME")


architectures.register("diffusers")(Architecture("captioned", diffusers, recipe, pretrained, requires="diffusers"))
