"""What a pipeline of diffusers does: latents of a picture lose their noise by a scheduler, and are decoded."""

from __future__ import annotations

from typing import ClassVar

from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import TaskName
from maas_magics.core.tasks.denoising import Denoising


@tasks.register("diffusion")
class LatentDiffusion(Denoising, frozen=True, tag="diffusion"):
    """As `Denoising`, of latents; ``axes`` is their shape.

    Attributes
    ----------
    scheduler : str
        JSON of its ``scheduler_config.json``.
    """

    scheduler: str = "{}"

    task: ClassVar[TaskName] = "diffusion"
    unexported: ClassVar[str] = "Its scheduler and its autoencoder are those of diffusers, beside the graph"
