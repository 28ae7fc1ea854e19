"""The servers that are compared: how each is installed, started and asked.

Each is set up as its documentation says, on one worker, with a line of log for each request off and with its
metrics on, as ours has them. Batching is on where it gained at 32 connections and lost nothing much at one: Triton's
(half as many again). MLServer's lost at both, LitServe's gained nothing at 32 and lost at one, and BentoML's gained
about two fifths at 32, but kept the single requests that came afterwards waiting for 33 ms.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import numpy as np

from benchmarks.serving.bodies import Body, named, oip_json
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
    version = packages.parent.name.removeprefix("python")
    backend, model = folder / "backends" / "python", folder / "models" / NAME
    for place in (backend, model / "1"):
        place.mkdir(parents=True)
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    for file in (*(home / "backends" / "python").glob("*triton_python*"), stub):
        (backend / file.name).symlink_to(file)
    (model / "config.pbtxt").symlink_to(SERVERS / "triton_config.pbtxt")
    (model / "1" / "model.py").symlink_to(SERVERS / "triton_model.py")
    (model / "1" / "network.py").symlink_to(SERVERS / "network.py")
    where = [f"--model-repository={model.parent}", f"--backend-directory={backend.parent}"]
    ports = ["--http-address=127.0.0.1", f"--http-port={port}", f"--metrics-port={free_port()}", "--allow-grpc=false"]
    libraries = f"LD_LIBRARY_PATH={packages / 'nvidia_pytriton.libs'}"
    return ["env", libraries, str(home / "bin" / "tritonserver"), *where, *ports]


PEERS = {
    "triton": Peer("Triton of PyTriton", ("nvidia-pytriton", "onnxruntime"), _triton, binary=True, batches=True),
    "mlserver": Peer("MLServer", ("mlserver==1.7.*", "onnxruntime"), _mlserver),
    "kserve": Peer("KServe SDK", ("kserve", "onnxruntime"), _script("kserve_model.py"), binary=True),
    "litserve": Peer("LitServe", ("litserve", "onnxruntime"), _script("litserve_app.py")),
    "bentoml": Peer("BentoML", ("bentoml", "onnxruntime"), _bentoml, path="/infer", json=named),
    "ray": Peer(
        "Ray Serve", ("ray[serve]", "onnxruntime"), _script("ray_app.py"), path="/infer", json=named, usual=False
    ),
}


def place(name: str) -> Path | None:
    """Where a peer's virtual environment is, or would be; None when no place is named."""
    return Path(os.environ[FOLDERS], name).absolute() if os.environ.get(FOLDERS) else None


def installed(name: str) -> str:
    """Version of a peer; empty if it is not installed."""
    home = place(name)
    packages = [str(path) for path in home.glob("lib/python3.*/site-packages")] if home else []
    package = re.split(r"[=\[]", PEERS[name].packages[0])[0]
    return next((found.version for found in distributions(name=package, path=packages)), "") if packages else ""


def install(name: str) -> None:
    """Make a peer's virtual environment, or bring it up to date."""
    home = place(name)
    assert home is not None
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    subprocess.run([str(home / "bin" / "python"), "-m", "pip", "install", *PEERS[name].packages], check=True)


def start(name: str, network: Path, folder: Path) -> Server:
    """Start a peer on an ONNX file, in an empty folder of its own."""
    home, port = place(name), free_port()
    assert home is not None
    binaries = home / "bin"
    apart = {
        "NETWORK": str(network),
        "HOME": str(folder),
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(SERVERS),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    peer = PEERS[name]
    return Server(peer.command(binaries, folder, port), apart, folder, f"http://127.0.0.1:{port}{peer.path}")
