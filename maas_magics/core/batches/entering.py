"""What the network takes of rows with pictures or sounds that lie on disk as they enter the graph."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from maas_magics.core.features.augment import Augmentation
from maas_magics.core.features.module import Preprocessing
from maas_magics.core.features.processor import Processor


class Entering:
    """Makes of pixels and samples, numbers and codes what the network takes.

    So an epoch may vary its rows, and a picture takes one byte a number on disk.

    Parameters
    ----------
    processor : Processor
    transform : Preprocessing
    augment : mapping of str to float
        How training rows are varied.
    """

    def __init__(self, processor: Processor, transform: Preprocessing, augment: Mapping[str, float]) -> None:
        self._transform = transform
        self._augmentation = Augmentation(processor, augment) if augment else None
        self.varies = bool(augment)

    def __call__(self, tensors: list[Tensor], seed: int | None) -> list[Tensor]:
        """Inputs and target, of what entered, the places of the rows, and their target."""
        *entered, places, target = tensors
        vary = self._augmentation if seed is not None else None
        with torch.inference_mode():
            rows = places.tolist()
            if vary is not None and seed is not None:
                entered = list(vary.entering(entered, seed, rows))
            made = self._transform(*entered)
            if vary is not None and seed is not None:
                made = vary.made(made, seed, rows)
        return [*(x.clone() for x in made), target]
