"""LitServe, told to take and give the bodies of the Open Inference Protocol."""

from __future__ import annotations

import sys

import litserve
import numpy as np
from network import NAME, Network


class Api(litserve.LitAPI):
    """Arrays in, arrays out."""

    def setup(self, device: str) -> None:
        """Open the network."""
        self._network = Network()

    def decode_request(self, request: dict) -> np.ndarray:
        """Rows of a body."""
        given = request["inputs"][0]
        return np.array(given["data"], np.float32).reshape(given["shape"])

    def predict(self, rows: np.ndarray) -> list[np.ndarray]:
        """Answer rows."""
        return self._network(rows)

    def encode_response(self, found: list[np.ndarray]) -> dict:
        """Body of an answer."""
        outputs = [
            {"name": name, "shape": list(value.shape), "data": value.ravel().tolist()}
            for name, value in zip(self._network.outputs, found, strict=True)
        ]
        return {"model_name": NAME, "outputs": outputs}


if __name__ == "__main__":
    server = litserve.LitServer(Api(api_path=f"/v2/models/{NAME}/infer"), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="error", generate_client_file=False
    )
