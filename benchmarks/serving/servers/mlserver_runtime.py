"""A runtime of MLServer."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from network import Network


class Runtime(MLModel):
    """Arrays in, arrays out."""

    async def load(self) -> bool:
        """Open the network."""
        self._network = Network()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        found = self._network(NumpyCodec.decode_input(payload.inputs[0]))
        outputs = [NumpyCodec.encode_output(*pair) for pair in zip(self._network.outputs, found, strict=True)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
