"""Pictures that a network draws while it learns: of the same captions, from the same noise, now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from maas_magics.api.events import Samples
from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.modalities.text import TextFeature
from maas_magics.core.features.module import Preprocessing, entered_hosted
from maas_magics.core.features.processor import Processor
from maas_magics.core.pictures import as_png
from maas_magics.core.runtimes.pictures.session import PictureSession
from maas_magics.core.tasks.denoising import Denoising

MOST = 8
"""Captions that are drawn."""

LEAST, SHARE, GROWTH = 2.0, 0.01, 0.15
"""Seconds between two times at least; the share of a training that they take at most; and of the time so far that lies
between two of them, so that a long training has few."""


class Shown:
    """Draws captions, as often as is cheap.

    Parameters
    ----------
    processor : Processor
        Of the columns.
    task : Denoising
    captions : sequence of str
        What is drawn.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        processor: Processor,
        task: Denoising,
        captions: Sequence[str],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._processor, self._captions, self._clock = processor, list(captions), clock
        self._transform = Preprocessing(processor).eval()
        channels, height, width = task.axes
        feature = processor.features[0]
        assert isinstance(feature, TextFeature)
        self._feature, self._shape = feature, (channels, height, width)
        self._begun = self._last = clock()
        self._cost = 0.0

    def __call__(self, net: nn.Module, epoch: int, last: bool) -> Samples | None:
        """Pictures after an epoch; None where the last ones are too fresh, unless it is the last epoch."""
        now = self._clock()
        wait = max(LEAST, self._cost / SHARE, GROWTH * (now - self._begun))
        if not self._captions or (now - self._last < wait and not last):
            return None
        training = net.training
        net.eval()
        try:
            drawn = self._drawn(net)
        finally:
            net.train(training)
        self._last = self._clock()
        self._cost = self._last - now
        return Samples(epoch=epoch, titles=tuple(self._captions), images=tuple(map(as_png, drawn)))

    def _drawn(self, net: nn.Module) -> list[Array]:
        device = next(net.parameters()).device

        @torch.inference_mode()
        def denoise(arrays: Sequence[Array]) -> Array:
            inputs = self._transform(*entered_hosted(self._processor, arrays))
            made: Array = net(*(x.to(device) for x in inputs)).float().cpu().numpy()
            return made.reshape(len(arrays[0]), *self._shape)

        session = PictureSession(self._feature, self._shape, denoise)
        samplers = [session.sampler({"seed": place}) for place in range(len(self._captions))]
        states = [session.start([np.array([[caption]], dtype=object)]) for caption in self._captions]
        while True:
            outputs = session.step(states)
            choices = [one.choose(output) for one, output in zip(samplers, outputs, strict=True)]
            if choices[0].finish:
                return [choice.delta for choice in choices]
            for state, choice in zip(states, choices, strict=True):
                state.feed(choice.value)


def shown_of(prepared: Prepared) -> Shown | None:
    """What draws while a network learns; None where it learns something else.

    Parameters
    ----------
    prepared : Prepared
        Of a training; its held-out captions are drawn.
    """
    task, processor = prepared.answers, prepared.processor
    if not isinstance(task, Denoising):
        return None
    captions = prepared.sample.column(task.caption).to_pylist()
    return Shown(processor, task, [one for one in dict.fromkeys(captions) if one.strip()][:MOST])
