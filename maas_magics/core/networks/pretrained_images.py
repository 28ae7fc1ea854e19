"""Pretrained encoders of pictures, of a Hugging Face folder: what they are given, and one vector of what they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from maas_magics.api.errors import ModelError
from maas_magics.core.networks.pretrained import Pretrained

RESAMPLES = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Ways to resize a picture, by the numbers that Pillow has for them."""


class PretrainedImage(Pretrained):
    """An encoder of pictures of transformers, such as ViT, DINOv2, ConvNeXt or ResNet.

    Parameters
    ----------
    config : mapping
        Its configuration, as in ``config.json``.
    base : str
        Where its weights are.
    pooling : {"", "mean", "cls"}
        The mean over places, or the first token's vector; the latter where the network has tokens and nothing is said.
    """

    def __init__(self, config: Mapping[str, Any], base: str, pooling: str = "") -> None:
        super().__init__(config, base)
        self.pooling = pooling
        known = self.inner.config
        sizes = getattr(known, "hidden_sizes", None) or [getattr(known, "hidden_size", 0)]
        self.size = self.width = int(sizes[-1])
        if not self.size:
            raise ModelError(f"{base} does not say how wide its vectors are.", "hidden_size in its config.json")

    def forward(self, pictures: Tensor) -> Tensor:
        """Vectors (n, size) of pictures (n, channels, height, width)."""
        x: Tensor = self.inner(pixel_values=pictures).last_hidden_state
        if x.dim() == 4:
            return x.mean((2, 3))
        return x.mean(1) if self.pooling == "mean" else x[:, 0]


def given(known: Mapping[str, Any]) -> dict[str, Any]:
    """What a picture is like for a network, of what its image processor is configured to.

    Parameters
    ----------
    known : mapping
        Its ``preprocessor_config.json``.

    Raises
    ------
    ModelError
        If it is prepared in another way.
    """
    size, cut = known.get("size") or {}, known.get("crop_size") or {}
    size = {"shortest_edge": size} if isinstance(size, int) else size
    cut = {"height": cut, "width": cut} if isinstance(cut, int) else cut
    crops = bool(known.get("do_center_crop", bool(cut)))
    edge = int(size.get("shortest_edge", 0))
    height, width = (int((cut if crops else size).get(name, edge)) for name in ("height", "width"))
    if known.get("do_resize") is False or not height or not width:
        raise ModelError("Its image processor gives pictures no size.", "A network for pictures of one size.")
    if edge and not crops:
        raise ModelError("Its image processor gives pictures no one shape.", "do_center_crop in its configuration.")
    if crops and not edge:
        edge = min(int(size.get(name, 0)) for name in ("height", "width"))
    if abs(float(known.get("rescale_factor", 1 / 255)) * 255 - 1) > 1e-3 or known.get("do_rescale") is False:
        raise ModelError("Its image processor scales pixels in a way of its own.", "rescale_factor 1/255")
    plain = known.get("do_normalize") is False
    mean, std = known.get("image_mean"), known.get("image_std")
    return {
        "channels": 3,
        "height": height,
        "width": width,
        "mean": (0.0,) * 3 if plain or not mean else tuple(map(float, mean)),
        "std": (1.0,) * 3 if plain or not std else tuple(map(float, std)),
        "resample": RESAMPLES[int(known.get("resample", 2))],
        "edge": edge if crops else 0,
        "whole": not crops,
    }
