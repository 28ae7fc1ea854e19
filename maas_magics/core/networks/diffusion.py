"""The parts of a pipeline of diffusers that draws from captions: text encoder, denoiser and autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from maas_magics.api.errors import ModelError, require
from maas_magics.core.networks.hub import open_folder

INSTALLED = "maas-magics[diffusers]"


class Diffusion(nn.Module):
    """A pipeline of Stable Diffusion (Rombach et al. 2022), but for its scheduler.

    Parameters
    ----------
    config : mapping
        Configurations of ``text_encoder``, ``unet`` and ``vae``.
    base : str
        Where the weights are; see `initialise`.
    """

    def __init__(self, config: Mapping[str, Any], base: str) -> None:
        super().__init__()
        require("diffusers", "diffusers", "A pipeline of diffusers", INSTALLED)
        require("transformers", "transformers", "A pipeline of diffusers", INSTALLED)
        import diffusers
        from transformers import CLIPTextConfig, CLIPTextModel

        self.base = base
        self.text_encoder = cast(nn.Module, CLIPTextModel(CLIPTextConfig(**config["text_encoder"])))
        networks: Any = diffusers
        self.unet = cast(nn.Module, networks.UNet2DConditionModel.from_config(config["unet"]))
        self.vae = cast(nn.Module, networks.AutoencoderKL.from_config(config["vae"]))
        self.factor = float(config["vae"].get("scaling_factor", 0.18215))

    def initialise(self, *rows: Tensor) -> None:
        """Read the weights of the folder.

        Parameters
        ----------
        *rows : Tensor
            Not used.

        Raises
        ------
        ModelError
            If it lacks some.
        """
        import diffusers
        from transformers import CLIPTextModel

        path = open_folder(self.base).path
        kinds = {
            "text_encoder": CLIPTextModel,
            "unet": diffusers.UNet2DConditionModel,
            "vae": diffusers.AutoencoderKL,
        }
        for name, kind in kinds.items():
            getattr(self, name).load_state_dict(_read(kind, path / name))

    def forward(self, numeric: Tensor, codes: Tensor, words: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """What the denoiser answers to latents, float32 (n, numbers): their noise, or what its scheduler takes.

        Parameters
        ----------
        numeric, codes : Tensor, shape (n, 0)
            Nothing: columns beside the caption.
        words : Tensor, int64, shape (n, tokens)
            Ids of a caption, as long as the text encoder takes them.
        noisy : Tensor, shape (n, channels, height, width)
            Latents.
        time : Tensor, shape (n, 1)
            Timesteps of the scheduler.
        """
        context = self.text_encoder(words)[0]
        found: Tensor = self.unet(noisy, time[:, 0], encoder_hidden_states=context).sample
        return found.flatten(1)

    @torch.inference_mode()
    def picture(self, latents: Tensor) -> Tensor:
        """Pictures of latents, (n, channels, height, width), of values within −1…1.

        Parameters
        ----------
        latents : Tensor, shape (n, channels, height, width)
        """
        vae: Any = self.vae
        found: Tensor = vae.decode(latents / self.factor).sample
        return found


def scheduler_of(config: Mapping[str, Any]) -> Any:
    """A scheduler of diffusers by its configuration: one that the library itself has.

    Parameters
    ----------
    config : mapping
        As in ``scheduler_config.json``.

    Raises
    ------
    ModelError
        If the library has none of that name.
    """
    require("diffusers", "diffusers", "A pipeline of diffusers", INSTALLED)
    import diffusers

    name = str(config.get("_class_name"))
    kind: Any = getattr(diffusers, name, None)
    if not isinstance(kind, type) or not issubclass(kind, diffusers.SchedulerMixin):
        raise ModelError(f"diffusers has no scheduler {name!r}.", "%pip install --upgrade diffusers")
    found: Any = kind
    return found.from_config(dict(config))


def _read(kind: Any, path: Path) -> dict[str, Tensor]:
    try:
        found = kind.from_pretrained(path, use_safetensors=True, torch_dtype=torch.float32)
    except Exception as error:  # of many kinds
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} cannot be read: {first}", "Give a folder as save_pretrained writes it.") from error
    return dict(found.state_dict())
