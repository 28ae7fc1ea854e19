"""The servers that are compared: how each is installed, started and asked.

Each is set up as its documentation says, on one worker, with its per-request logging off, and with its
batching on where that was the faster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import numpy as np

from benchmarks.serving.bodies import INPUT, Body, named, oip_json
from benchmarks.serving.server import Server, free_port
from benchmarks.serving.servers.network import NAME

SERVERS = Path(__file__).with_name("servers")
"""What the peers run, in interpreters of their own."""

FOLDERS = "MAAS_PEERS"
"""Environment variable that names the folder of their virtual environments."""


@dataclass(frozen=True)
class Peer:
    """A server to compare with.

    Attributes
    ----------
    title : str
        Its name in the tables.
    packages : tuple of str
        What to install; the first is the one whose version is told.
    command : callable
        From its interpreter's folder, a folder of its own and a port to a command.
    path : str
        Where it answers.
    json : callable
        Body of some rows.
    binary, batches : bool
        Whether it reads tensors in binary, and whether it is asked 256 rows at a time.
    usual : bool
        Whether it takes part without being named.
    """

    title: str
    packages: tuple[str, ...]
    command: Callable[[Path, Path, int], list[str]]
    path: str = f"/v2/models/{NAME}/infer"
    json: Callable[[np.ndarray], Body] = oip_json
    binary: bool = False
    batches: bool = False
    usual: bool = True


def _script(file: str) -> Callable[[Path, Path, int], list[str]]:
    return lambda binaries, folder, port: [str(binaries / "python"), str(SERVERS / file), str(port)]


def _mlserver(binaries: Path, folder: Path, port: int) -> list[str]:
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    quiet = {"debug": False, "parallel_workers": 0, "host": "127.0.0.1"}
    (folder / "settings.json").write_text(json.dumps({**quiet, **ports}))
    model = {"name": NAME, "implementation": "mlserver_runtime.Runtime"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(binaries / "mlserver"), "start", str(folder)]


def _bentoml(binaries: Path, folder: Path, port: int) -> list[str]:
    return [str(binaries / "bentoml"), "serve", "bento_service:Net", "--host", "127.0.0.1", "--port", str(port)]


def _triton(binaries: Path, folder: Path, port: int) -> list[str]:
    """Triton's own binary, as it lies in the wheel of PyTriton, with a model for its Python backend."""
    packages = next(binaries.parent.glob("lib/python3.*/site-packages"))
    home = packages / "pytriton" / "tritonserver"
    model = folder / "models" / NAME
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").symlink_to(SERVERS / "triton_model.py")
    (model / "config.pbtxt").write_text((SERVERS / "triton_config.pbtxt").read_text())
    stub = home / "python_backend_stubs" / packages.parent.name.removeprefix("python") / "triton_python_backend_stub"
    (model / stub.name).symlink_to(stub)
    return [
        str(home / "bin" / "tritonserver"),
        f"--model-repository={model.parent}",
        f"--backend-directory={home / 'backends'}",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
    ]
