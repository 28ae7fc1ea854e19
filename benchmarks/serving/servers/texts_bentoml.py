"""BentoML with the classification pipeline of transformers, in batches as its documentation makes them."""

from __future__ import annotations

import os

import bentoml
import torch
from transformers import pipeline

BATCH = int(os.environ["BATCH"])


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Texts:
    """The pipeline behind a route."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._ask = pipeline("text-classification", model=os.environ["NETWORK"], device="cpu")

    if BATCH > 1:

        @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=10_000)
        def infer(self, texts: list[str]) -> list[dict]:
            """Answer texts of several requests."""
            return self._ask(texts, batch_size=len(texts))

    else:

        @bentoml.api
        def infer(self, texts: list[str]) -> list[dict]:
            """Answer the texts of a request."""
            return [self._ask(text)[0] for text in texts]
