"""Pipelines that draw from captions: folders of diffusers, in the form of Stable Diffusion."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec

from maas_magics.api.errors import ModelError
from maas_magics.core.features.modalities.latent import LatentFeature
from maas_magics.core.features.modalities.text import TextFeature
from maas_magics.core.features.tokens import tokenizer
from maas_magics.core.importers import Imported, importers
from maas_magics.core.networks.diffusion import scheduler_of
from maas_magics.core.networks.hub import HubFolder
from maas_magics.core.tasks.diffusion import LatentDiffusion

PIPELINES = ("StableDiffusionPipeline",)
"""Pipelines that are known here."""


class TextToImage:
    """``StableDiffusionPipeline``: CLIP's text encoder, a `UNet2DConditionModel` and an `AutoencoderKL`."""

    def accepts(self, folder: HubFolder) -> bool:
        """Whether a folder holds such a pipeline."""
        return str(folder.config.get("_class_name")) in PIPELINES

    def read(self, folder: HubFolder, column: str) -> Imported:
        """The caption, and latents that are denoised."""
        if not self.accepts(folder):
            held = folder.config.get("_class_name", "no pipeline")
            raise ModelError(
                f"{folder.path} holds {held}, which does not draw here.", f"Known is: {', '.join(PIPELINES)}."
            )
        text, unet, vae = (folder.read(f"{part}/config.json") for part in ("text_encoder", "unet", "vae"))
        scheduler = folder.read("scheduler/scheduler_config.json")
        scheduler_of(scheduler)
        words = replace(folder, path=folder.path / "tokenizer", config=text)
        source, longest = words.tokenizer, int(text["max_position_embeddings"])
        said = words.read("tokenizer_config.json").get("pad_token")
        token = said.get("content") if isinstance(said, dict) else said
        padding = tokenizer(source, 0).token_to_id(token) if token else None
        name = column or "caption"
        side, channels = unet["sample_size"], int(unet["in_channels"])
        height, width = (side, side) if isinstance(side, int) else side
        times = 2 ** (len(vae["block_out_channels"]) - 1)
        shape, picture = (channels, height, width), (int(vae["out_channels"]), times * height, times * width)
        feature = TextFeature(
            name,
            tokenizer=source,
            size=int(text["vocab_size"]),
            padding=int(text.get("pad_token_id") or 0) if padding is None else padding,
            longest=longest,
        )
        task = msgspec.structs.replace(LatentDiffusion.of("picture", name, shape), scheduler=json.dumps(scheduler))
        noisy = LatentFeature("noisy picture", row=shape, picture=True, drawn_as=picture)
        return Imported(
            "diffusers",
            feature,
            task,
            params={"words": longest},
            more=(noisy, LatentFeature("time of picture", row=(1,))),
        )


importers.register("text-to-image")(TextToImage())
