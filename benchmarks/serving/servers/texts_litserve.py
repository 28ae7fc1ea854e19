"""LitServe with the classification pipeline of transformers, in batches as its documentation makes them."""

from __future__ import annotations

import os
import sys

import litserve
import torch
from transformers import pipeline


class Api(litserve.LitAPI):
    """Texts in, labels out."""

    def setup(self, device: str) -> None:
        """Open the network."""
        torch.set_num_threads(1)
        self._ask = pipeline("text-classification", model=os.environ["NETWORK"], device="cpu")

    def decode_request(self, request: dict) -> str:
        """Text of a body."""
        return request["text"]

    def predict(self, texts: list[str] | str) -> list[dict]:
        """Answer texts."""
        return self._ask(texts, batch_size=len(texts)) if isinstance(texts, list) else self._ask(texts)[0]

    def encode_response(self, found: dict) -> dict:
        """Body of an answer."""
        return found


if __name__ == "__main__":
    batch = int(sys.argv[2])
    api = Api(max_batch_size=batch, batch_timeout=0.005 if batch > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="error", generate_client_file=False
    )
