"""Networks of timm for pictures, from scratch or with weights of a file: ``--model timm:resnet18``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.features.port import Port
from maas_magics.core.networks.hub import check_offered, digest_of
from maas_magics.core.networks.one_picture import KIND, over_pictures
from maas_magics.core.networks.timm_networks import PretrainedTimm, TimmEncoder, known
from maas_magics.core.networks.timm_networks import given as given_of
from maas_magics.core.tasks.base import Task


def timm(
    features: NetworkInputs,
    outputs: int,
    *,
    task: Task,
    base: str = "",
    weights: str = "",
    digest: str = "",
    hidden: int | None = None,
    dropout: float = 0.1,
) -> nn.Module:
    """A network of timm over pictures; numbers, categories and other columns beside it.

    Parameters
    ----------
    features : NetworkInputs
        One array of pictures, or columns of which one or more hold pictures.
    outputs : int
        Numbers that the network puts out for a row.
    task : Task
        The fitted target; not used.
    base : str
        Name of the network.
    weights : str
        Path of a file of safetensors with its weights; it is trained from scratch where empty.
    digest : str
        SHA-256 of the weights.
    hidden : int or None
        Width of a layer before the answer, for files among other columns; none where pictures are all there is, else
        128.
    dropout : float
        Probability of dropping a number of a picture's vector.
    """
    if not features.image and not any(port.kind == KIND for port in features.ports):
        raise OptionError("Networks of timm look at pictures; no column holds any.", "--feature COLUMN=image")

    def encoder(port: Port) -> nn.Module:
        return PretrainedTimm(port, base, weights) if weights else TimmEncoder(port, base)

    return over_pictures(features, outputs, encoder, hidden, dropout, faster=10.0)


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW at 1e-4 for weights of a file and 1e-3 for what is new, falling after a warm-up.

    Parameters
    ----------
    rows : int
        Training rows; not used.
    task : Task
        The fitted target.
    """
    return Recipe(
        optimizer="AdamW",
        lr=1e-4,
        weight_decay=0.05,
        schedule="linear",
        batch_size=32,
        epochs=20,
        patience=6,
        monitor=task.usual_monitor,
    )


def pretrained(ref: str) -> dict[str, Any]:
    """Hyperparameters that say which network it is, and where its weights are.

    Parameters
    ----------
    ref : str
        ``NAME``, or ``NAME@FILE.safetensors``.

    Raises
    ------
    ModelError
        If timm has no such network, or there is no such file.
    """
    name, at, weights = ref.partition("@")
    known(name)
    if not at:
        return {"base": name}
    path = Path(weights).expanduser()
    check_offered(path, weights)
    if path.suffix != ".safetensors" or not path.is_file():
        raise ModelError(
            f"There is no file {weights!r} of safetensors.", "Other formats may run code when they are read."
        )
    return {"base": name, "weights": str(path), "digest": digest_of([path])}


def given(params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What weights of a file require of pictures; nothing from scratch.

    Parameters
    ----------
    params : dict of str to Any
        Hyperparameters of the architecture; ``base`` is the network.
    """
    return {KIND: given_of(str(params["base"]))} if params.get("weights") else {}


architectures.register("timm")(Architecture("ports", timm, recipe, pretrained, given, arrays="image"))
