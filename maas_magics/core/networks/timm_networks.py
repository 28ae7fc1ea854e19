"""Networks of timm as encoders of pictures, from scratch or with the weights of a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from maas_magics.api.errors import ModelError, did_you_mean, require
from maas_magics.core.features.port import Port


class TimmEncoder(nn.Module):
    """A network of timm without its last layer.

    Parameters
    ----------
    port : Port
        Pictures (channels, height, width).
    name : str
        Of the network, such as ``resnet18``.
    channels : int
        That it takes; 0 for those of the pictures. Grey pictures are given three times where it takes 3.
    """

    def __init__(self, port: Port, name: str, channels: int = 0) -> None:
        super().__init__()
        self.name = name
        self.channels = channels or port.shape[0]
        self.repeats = port.shape[0] == 1 and self.channels == 3
        timm = known(name)
        asked: dict[str, Any] = {"pretrained": False, "num_classes": 0, "in_chans": self.channels}
        try:
            self.inner: Any = timm.create_model(name, img_size=tuple(port.shape[1:]), **asked)
        except TypeError:  # it takes pictures of any size
            self.inner = timm.create_model(name, **asked)
        self.size = int(getattr(self.inner, "head_hidden_size", 0) or self.inner.num_features)

    def forward(self, pictures: Tensor) -> Tensor:
        """Vectors (n, size) of pictures (n, channels, height, width)."""
        x = pictures.expand(-1, 3, -1, -1) if self.repeats else pictures
        found: Tensor = self.inner(x)
        return found


class PretrainedTimm(TimmEncoder):
    """A network of timm whose weights lie in a file.

    Parameters
    ----------
    port : Port
        Pictures (channels, height, width).
    name : str
        Of the network.
    weights : str
        Path of a file of safetensors.
    """

    def __init__(self, port: Port, name: str, weights: str) -> None:
        super().__init__(port, name, channels=3)
        self.weights = weights

    def initialise(self) -> None:
        """Read the pretrained weights, once, when a training begins."""
        from safetensors.torch import load_file

        try:
            missing, _ = self.inner.load_state_dict(load_file(Path(self.weights).expanduser()), strict=False)
        except Exception as error:  # of safetensors, or of torch where shapes differ
            why = (str(error).splitlines() or [type(error).__name__])[-1].strip()
            hint = "safetensors.torch.save_file(model.state_dict(), FILE) of timm's model writes them."
            raise ModelError(f"{self.weights} holds no weights of {self.name}: {why}", hint) from error
        if missing:
            raise ModelError(
                f"{self.weights} lacks weights of {self.name}: {missing[0]}",
                "safetensors.torch.save_file(model.state_dict(), FILE) of timm's model writes them.",
            )


def known(name: str) -> Any:
    """The package timm, where it has a network of a name.

    Parameters
    ----------
    name : str
        Such as ``resnet18``; a tag of weights behind a dot is left to timm.

    Raises
    ------
    ModelError
        If it has none.
    """
    require("timm", "timm", "Networks of timm", "maas-magics[timm]")
    import timm

    bare = name.partition(".")[0]
    if not timm.is_model(bare):
        raise ModelError(f"timm has no network {name!r}.", did_you_mean(bare, timm.list_models()))
    return timm


def given(name: str) -> dict[str, Any]:
    """What a picture is like for a network with weights, of what timm says of it; see `FitConfig`.

    Parameters
    ----------
    name : str
        Of the network.
    """
    said = known(name).get_pretrained_cfg(name)
    _, height, width = said.input_size
    return {
        "channels": 3,
        "height": height,
        "width": width,
        "mean": tuple(said.mean),
        "std": tuple(said.std),
        "resample": said.interpolation if said.interpolation in ("bilinear", "bicubic", "nearest") else "bicubic",
        "edge": math.floor(min(height, width) / said.crop_pct),
    }
