"""Pictures of pipelines of diffusers: latents that follow a scheduler of the library, and are decoded at the end."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from maas_magics.core.data.arrow import Array
from maas_magics.core.features.modalities.text import TextFeature
from maas_magics.core.runtimes import Choice
from maas_magics.core.runtimes.pictures.sampler import Fed, parsed, pixels
from maas_magics.core.runtimes.pictures.session import Denoise, PictureSession

STEPS, GUIDANCE = 30, 7.5
"""Of a picture, where nothing is said."""


class ScheduledSampler:
    """One picture along a scheduler.

    Parameters
    ----------
    shape : tuple of int
        Of its latents.
    params : mapping of str to Any
        See `maas_magics.core.runtimes.pictures.sampler.PictureParams`.
    scheduler : Any
        Of the library, for this picture alone.
    decode : callable
        From latents, (1, …), to a picture of values within −1…1.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        params: Mapping[str, Any],
        scheduler: Any,
        decode: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        given = {name: value for name, value in params.items() if value is not None}
        self._params = parsed({"steps": STEPS, "guidance": GUIDANCE, **given})
        self._scheduler, self._decode, self._done = scheduler, decode, 0
        seed = None if self._params.seed is None else self._params.seed % 2**64
        noise = np.random.default_rng(seed).standard_normal((1, *shape)).astype(np.float32)
        scheduler.set_timesteps(self._params.steps)
        self._times = scheduler.timesteps
        self._latents = torch.from_numpy(noise) * scheduler.init_noise_sigma
        self._more: dict[str, Any] = {}
        if "generator" in inspect.signature(scheduler.step).parameters:
            random = torch.Generator()
            self._more = {"generator": random.manual_seed(seed % 2**63) if seed is not None else random}
            if seed is None:
                random.seed()

    def choose(self, output: Array) -> Choice:
        """Go one step by what the denoiser answers; of nothing, begin.

        Parameters
        ----------
        output : ndarray, float32, shape (channels, height, width) or (0,)
            What the session gave.
        """
        delta = None
        if output.size:
            made, time = torch.from_numpy(np.ascontiguousarray(output))[None], self._times[self._done]
            self._latents = self._scheduler.step(made, time, self._latents, **self._more).prev_sample
            self._done += 1
            last = self._done == len(self._times)
            if last or (self._params.every and self._done % self._params.every == 0):
                delta = pixels(self._decode(self._latents)[0].numpy())
            if last:
                return Choice(None, delta, "stop")
        time = self._times[self._done]
        scaled = self._scheduler.scale_model_input(self._latents, time)
        return Choice(Fed(scaled[0].numpy(), float(time), self._params.guidance), delta)


class ScheduledSession(PictureSession):
    """An open pipeline of diffusers.

    Parameters
    ----------
    feature : TextFeature
        How captions become tokens: always as many as the text encoder takes.
    shape : tuple of int
        Of latents.
    denoise : callable
        A pass of the text encoder and the denoiser.
    scheduler : callable
        Makes a scheduler for one picture.
    decode : callable
        From latents to pictures of values within −1…1.
    """

    def __init__(
        self,
        feature: TextFeature,
        shape: tuple[int, int, int],
        denoise: Denoise,
        scheduler: Callable[[], Any],
        decode: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        super().__init__(feature, shape, denoise)
        self._scheduler, self._decode = scheduler, decode
        self.nothing = feature.enter(np.array([[""]], dtype=object))[0]
        self.least = feature.longest

    def sampler(self, params: Mapping[str, Any]) -> ScheduledSampler:  # type: ignore[override]
        """A sampler for one picture.

        Parameters
        ----------
        params : mapping of str to Any
            See `maas_magics.core.runtimes.pictures.sampler.PictureParams`.
        """
        return ScheduledSampler(self.shape, params, self._scheduler(), self._decode)
