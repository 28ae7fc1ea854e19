"""What kind of column a pretrained network of a Hugging Face folder is for, and what it asks of such columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.core.features.port import Port
from maas_magics.core.features.processor import NetworkInputs
from maas_magics.core.networks import pretrained_audio, pretrained_images
from maas_magics.core.networks.hub import HubFolder
from maas_magics.core.networks.one_picture import over_pictures
from maas_magics.core.networks.pretrained_audio import PretrainedSound
from maas_magics.core.networks.pretrained_images import PretrainedImage

HINTS = {"image": "--feature COLUMN=image", "audio": "--feature COLUMN=audio"}


def kind_of(folder: HubFolder) -> str:
    """``image`` or ``audio`` where a folder has a processor of pictures or sounds, else ``text``.

    Parameters
    ----------
    folder : HubFolder
        The folder.
    """
    known = _processor(folder)
    if "image_processor_type" in known or "image_mean" in known:
        return "image"
    if "sampling_rate" in known:
        return "audio"
    return "text"


def asked_of(folder: HubFolder, kind: str) -> dict[str, Any]:
    """What a network requires of columns of its kind; see `FitConfig`.

    Parameters
    ----------
    folder : HubFolder
        The folder.
    kind : {"image", "audio"}
        Of its columns.
    """
    known = _processor(folder)
    return pretrained_images.given(known) if kind == "image" else pretrained_audio.given(known, folder.config)


def over_files(
    features: NetworkInputs,
    outputs: int,
    kind: str,
    config: Mapping[str, Any],
    base: str,
    pooling: str,
    hidden: int | None,
    dropout: float,
) -> nn.Module:
    """A network with a pretrained encoder over columns of pictures, or of sounds, and others beside them.

    Parameters
    ----------
    features : NetworkInputs
        The columns.
    outputs : int
        Numbers that the network puts out for a row.
    kind : {"image", "audio"}
        Of the columns that the encoder is for.
    config : mapping
        Its configuration.
    base : str
        Where its weights are.
    pooling : str
        See `PretrainedImage`.
    hidden : int or None
        Width of a layer before the answer; none where there is one column only, else 128.
    dropout : float
        Probability of dropping a number before the answer.

    Raises
    ------
    OptionError
        If there is no such column.
    """
    if not any(port.kind == kind for port in features.ports):
        what = "looks at pictures" if kind == "image" else "hears sounds"
        raise OptionError(f"This pretrained network {what}; no column holds any.", HINTS[kind])

    def encoder(port: Port) -> nn.Module:
        if kind == "image":
            return PretrainedImage(config, base, pooling)
        return PretrainedSound(port, config, base)

    return over_pictures(features, outputs, encoder, hidden, dropout, faster=10.0, kinds=(kind,))


def _processor(folder: HubFolder) -> dict[str, Any]:
    """Configuration of its image processor or feature extractor; nothing where it has none."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = folder.path / name
        if not file.is_file():
            continue
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{file} is not JSON: {error}", "Give a folder as save_pretrained writes it.") from None
        inner = found.get("image_processor") or found.get("feature_extractor") or found
        return inner if isinstance(inner, dict) else {}
    return {}
