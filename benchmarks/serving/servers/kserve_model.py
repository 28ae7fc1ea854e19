"""A model of KServe's SDK."""

from __future__ import annotations

import logging
import sys

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.numpy_codec import from_np_dtype
from kserve.utils.utils import generate_uuid
from network import NAME, Network


class Net(Model):
    """Arrays in, arrays out."""

    def load(self) -> bool:
        """Open the network."""
        self._network = Network()
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, headers: dict | None = None, response_headers: dict | None = None):
        """Answer one request."""
        binary, outputs = payload.use_binary_outputs, []
        for name, value in zip(self._network.outputs, self._network(payload.inputs[0].as_numpy()), strict=True):
            output = InferOutput(name, list(value.shape), from_np_dtype(value.dtype))
            output.set_data_from_numpy(value, binary_data=binary)
            outputs.append(output)
        return InferResponse(payload.id or generate_uuid(), NAME, outputs, use_binary_outputs=binary)


if __name__ == "__main__":
    logging.disable(logging.INFO)  # three lines for each request otherwise
    model = Net(NAME)
    model.load()
    ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, enable_latency_logging=False).start([model])
