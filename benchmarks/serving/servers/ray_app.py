"""Ray Serve, in its own way: a deployment that gets the request."""

from __future__ import annotations

import signal
import sys

import numpy as np
import ray
from network import Network
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Net:
    """The network behind a route."""

    def __init__(self) -> None:
        self._network = Network()

    async def __call__(self, request: Request) -> dict:
        """Answer rows."""
        given = await request.json()
        found = self._network(np.array(given["x"], np.float32))
        return {name: value.tolist() for name, value in zip(self._network.outputs, found, strict=True)}


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False}
    )
    serve.run(Net.bind(), route_prefix="/infer")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
