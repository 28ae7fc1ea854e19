"""Pretrained encoders of sounds, of a Hugging Face folder: what they are given, and one vector of what they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from maas_magics.api.errors import ModelError
from maas_magics.core.features.heard import HOP, WINDOW, ends
from maas_magics.core.features.port import Port
from maas_magics.core.networks.encoders import masked_mean
from maas_magics.core.networks.pretrained import Pretrained


class PretrainedSound(Pretrained):
    """An encoder of sounds of transformers: wav2vec 2.0, HuBERT, WavLM over samples, or Whisper's over a spectrogram.

    Parameters
    ----------
    port : Port
        Samples (length,), or a spectrogram (bands, frames).
    config : mapping
        Its configuration, as in ``config.json``.
    base : str
        Where its weights are.
    """

    def __init__(self, port: Port, config: Mapping[str, Any], base: str) -> None:
        self.frames = port.shape[1] // 2 if len(port.shape) == 2 else 0
        """Of Whisper's encoder, which halves those of the spectrogram."""
        changed = {"max_source_positions": self.frames} if self.frames else {}
        super().__init__({**config, **changed}, base)
        known = self.inner.config
        self.size = self.width = int(known.d_model if self.frames else known.hidden_size)

    def encoder(self, model: Any) -> Any:
        """Its encoder alone, of a model that also writes."""
        found = model.get_encoder() if self.frames else model
        if hasattr(found.config, "apply_spec_augment"):  # hides parts in training that may be longer than a sound
            found.config.apply_spec_augment = False
        return found

    def adapted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights for sounds as long as those here."""
        name = "embed_positions.weight"
        return weights | {name: weights[name][: self.frames]} if self.frames and name in weights else weights

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (n, size) of samples (n, length), or of spectrograms (n, bands, frames)."""
        states: Tensor = self.inner(x).last_hidden_state
        if self.frames:
            return states.mean(1)
        frames = states.shape[1]
        long = torch.ceil(ends(x).to(torch.float32) * (frames / x.shape[1])).clamp(min=1.0)
        there = torch.arange(frames, device=x.device) < long
        return masked_mean(states.transpose(1, 2), there.unsqueeze(1))


class ToTheEnd(nn.Module):
    """The convolutions of wav2vec 2.0, normalised over a sound without the zeros behind it: as if there were none.

    Parameters
    ----------
    inner : nn.Module
        Those of transformers.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.conv_layers = inner.conv_layers

    def forward(self, samples: Tensor) -> Tensor:
        """Vectors (n, width, frames) of samples (n, length)."""
        x, long = samples.unsqueeze(1), ends(samples)
        for layer in cast("Iterable[Any]", self.conv_layers):
            kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
            long = (torch.div(long - kernel, stride, rounding_mode="floor") + 1).clamp(min=1)
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                x = layer.activation(_normalised(layer.conv(x), long.unsqueeze(1), norm))
            else:
                x = layer(x)
        return x


def _normalised(x: Tensor, long: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Each channel with mean 0 and variance 1 over its first frames, scaled and shifted."""
    there = torch.arange(x.shape[2], device=x.device) < long
    mean = torch.where(there, x, 0.0).sum(2, keepdim=True) / long
    spread = torch.where(there, x - mean, 0.0).square().sum(2, keepdim=True) / long
    return (x - mean) * torch.rsqrt(spread + norm.eps) * norm.weight[:, None] + norm.bias[:, None]


def given(known: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What a sound is like for a network, of what its feature extractor is configured to.

    Parameters
    ----------
    known : mapping
        Its ``preprocessor_config.json``.
    config : mapping
        Its ``config.json``.

    Raises
    ------
    ModelError
        If it is prepared in another way.
    """
    rate = int(known.get("sampling_rate", 16_000))
    if str(config.get("model_type")) == "whisper":
        if (known.get("n_fft", WINDOW), known.get("hop_length", HOP)) != (WINDOW, HOP):
            raise ModelError("Its spectrogram has frames of another length.", f"n_fft {WINDOW}, hop_length {HOP}")
        bands = int(known.get("feature_size", config.get("num_mel_bins", 80)))
        longest = float(known.get("chunk_length", 30))
        return {"rate": rate, "form": "whisper", "bands": bands, "longest": longest, "start": True}
    if int(known.get("feature_size", 1)) != 1 or "num_mel_bins" in known:
        raise ModelError(
            f"A network {config.get('model_type')!r} hears a spectrogram of its own, which is not made here.",
            "wav2vec 2.0, HuBERT, WavLM or Whisper.",
        )
    form = "standardised" if known.get("do_normalize", True) else "samples"
    return {"rate": rate, "form": form, "longest": 20.0, "start": True}
