"""Our own service: a store with one model in it, and the command that serves it."""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure import fresh, quietly
from benchmarks.serving.bodies import Body
from benchmarks.serving.server import Server, free_port
from benchmarks.serving.servers.network import NAME

FEATURES, CLASSES = 64, 10


@dataclass(frozen=True)
class Ours:
    """A store with the network that everybody serves.

    Attributes
    ----------
    store : Path
    network : Path
        The ONNX file that was exported from it, for the peers.
    token : str
        What clients send.
    """

    store: Path
    network: Path
    token: str

    def body(self, body: Body) -> Body:
        """What to send, with the token that our service asks for."""
        return replace(body, headers={**body.headers, "Authorization": f"Bearer {self.token}"})

    def start(self, folder: Path) -> Server:
        """Start the service as its documentation says."""
        port, file = free_port(), folder / "token"
        file.touch(0o600)
        file.write_text(self.token)
        command = [sys.executable, "-m", "maas_magics.service", "--store", str(self.store), "--host", "127.0.0.1"]
        url = f"http://127.0.0.1:{port}/v2/models/{NAME}/infer"
        return Server([*command, "--port", str(port), "--token-file", str(file)], {}, folder, url)


def trained_by(checkout: Path, folder: Path) -> Ours:
    """The same, trained by another checkout: what an older one has written, a newer one reads."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.serving.ours import trained; trained(Path(sys.argv[1]))"
    )
    fresh(code, str(folder), checkout=checkout)
    return Ours(folder, next(folder.rglob("*.onnx")), secrets.token_urlsafe(32))


def trained(folder: Path) -> Ours:
    """Train 64 → 256 → 256 → 10 for one epoch on noise, and export it."""
    import numpy as np
    from torch import nn

    import maas_magics as maas

    os.environ |= {"MAAS_STORE": str(folder), "MAAS_UI": "static"}
    made = np.random.default_rng(0)
    x = made.standard_normal((1024, FEATURES), dtype=np.float32)
    layers = (nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, CLASSES))
    data = (x, made.integers(0, CLASSES, len(x)))
    quietly(lambda: maas.train(NAME, data, model=nn.Sequential(*layers), epochs=1))
    artifact = maas.export(NAME)
    return Ours(folder, next(Path(artifact.path).rglob("*.onnx")), secrets.token_urlsafe(32))
