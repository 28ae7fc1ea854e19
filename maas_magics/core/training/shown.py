"""What a network draws or writes while it learns: always the same captions, from the same noise, now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from maas_magics.api.events import Samples
from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.modalities.text import TextFeature
from maas_magics.core.features.module import Preprocessing, entered_hosted
from maas_magics.core.features.processor import Processor
from maas_magics.core.pictures import as_png
from maas_magics.core.runtimes.pictures.session import PictureSession
from maas_magics.core.runtimes.text.session import TextSession
from maas_magics.core.runtimes.text.torch_engine import TorchEngine
from maas_magics.core.tasks.denoising import Denoising

MOST = 8
"""Captions that are drawn."""

TEXTS, TOKENS, WARMTH = 3, 48, 0.8
"""Texts that are written, tokens of each at most, and the temperature."""

LEAST, SHARE, GROWTH = 2.0, 0.01, 0.15
"""Seconds between two times at least; the share of a training that they take at most; and of the time so far that lies
between two of them, so that a long training has few."""


class Shown:
    """Shows what a network makes, as often as is cheap.

    Parameters
    ----------
    made : callable
        From a network in eval mode to what it makes, as fields of `Samples`.
    clock : callable
        Seconds.
    """

    def __init__(
        self, made: Callable[[nn.Module], dict[str, Any]], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._made, self._clock = made, clock
        self._begun = self._last = clock()
        self._cost = 0.0

    def __call__(self, net: nn.Module, epoch: int, last: bool) -> Samples | None:
        """Samples after an epoch, or in one; None where the last ones are too fresh, unless nothing comes after."""
        now = self._clock()
        wait = max(LEAST, self._cost / SHARE, GROWTH * (now - self._begun))
        if now - self._last < wait and not last:
            return None
        training = net.training
        net.eval()
        try:
            made = self._made(net)
        finally:
            net.train(training)
        self._last = self._clock()
        self._cost = self._last - now
        return Samples(epoch=epoch, **made)


def drawing(processor: Processor, task: Denoising, captions: Sequence[str]) -> Callable[[nn.Module], dict[str, Any]]:
    """What draws captions.

    Parameters
    ----------
    processor : Processor
        Of the columns.
    task : Denoising
        What is learnt.
    captions : sequence of str
        What is drawn.
    """
    transform = Preprocessing(processor).eval()
    channels, height, width = task.axes
    feature, shape = processor.features[0], (channels, height, width)
    assert isinstance(feature, TextFeature)

    def made(net: nn.Module) -> dict[str, Any]:
        device = next(net.parameters()).device

        @torch.inference_mode()
        def denoise(arrays: Sequence[Array]) -> Array:
            inputs = transform(*entered_hosted(processor, arrays))
            found: Array = net(*(x.to(device) for x in inputs)).float().cpu().numpy()
            return found.reshape(len(arrays[0]), *shape)

        session = PictureSession(feature, shape, denoise)
        samplers = [session.sampler({"seed": place}) for place in range(len(captions))]
        states = [session.start([np.array([[caption]], dtype=object)]) for caption in captions]
        while True:
            outputs = session.step(states)
            choices = [one.choose(output) for one, output in zip(samplers, outputs, strict=True)]
            if choices[0].finish:
                return {"titles": tuple(captions), "images": tuple(as_png(choice.delta) for choice in choices)}
            for state, choice in zip(states, choices, strict=True):
                state.feed(choice.value)

    return made


def writing(feature: ProseFeature) -> Callable[[nn.Module], dict[str, Any]]:
    """What writes texts of a network's own, from where a text begins.

    Parameters
    ----------
    feature : ProseFeature
        How tokens become texts.
    """
    first = feature.begin if feature.begin is not None else feature.ends[0] if feature.ends else 0
    length = min(TOKENS, feature.block)

    def made(net: nn.Module) -> dict[str, Any]:
        decoder: Any = net.decoder
        engine = TorchEngine(decoder, TEXTS, length)
        session = TextSession(feature, engine)
        samplers = [session.sampler({"seed": place, "temperature": WARMTH}) for place in range(TEXTS)]
        texts, tokens, going = [""] * TEXTS, [first] * TEXTS, list(range(TEXTS))
        for place in range(length):
            rows = engine.step(going, [tokens[at] for at in going], [place] * len(going))
            for at, logits in zip(list(going), rows, strict=True):
                tokens[at], delta, finish = samplers[at].choose(logits)
                texts[at] += delta if isinstance(delta, str) else ""
                if finish:
                    going.remove(at)
            if not going:
                break
        return {"texts": tuple(texts)}

    return made


def shown_of(prepared: Prepared) -> Shown | None:
    """What draws or writes while a network learns; None where it learns something else.

    Parameters
    ----------
    prepared : Prepared
        Of a training; its held-out captions are drawn.
    """
    task, processor = prepared.answers, prepared.processor
    if isinstance(task, Denoising):
        captions = prepared.sample.column(task.caption).to_pylist()
        few = [one for one in dict.fromkeys(captions) if one.strip()][:MOST]
        return Shown(drawing(processor, task, few)) if few else None
    if isinstance(processor.features[0], ProseFeature):
        return Shown(writing(processor.features[0]))
    return None
