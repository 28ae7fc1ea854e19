"""A service behind a real Jupyter server's proxy, as on JupyterHub and Binder."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from serving import Service, remote

from maas_magics.api.events import EpochEnd
from maas_magics.api.requests import ExportRequest, PredictRequest, TrainRequest

BASE = "/user/ada/"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Service, str]]:
    """A service, and the address of a Jupyter server that has the same token and hands on to its ports."""
    service = Service(tmp_path / "service")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={port}"),
        *(f"--ServerApp.base_url={BASE}", f"--IdentityProvider.token={service.token}"),
        *("--ServerApp.jpserver_extensions={'jupyter_server_proxy': True}", f"--ServerApp.root_dir={tmp_path}"),
    ]
    log = tmp_path / "jupyter.log"
    with open(log, "wb") as out, subprocess.Popen(words, stdout=out, stderr=out) as jupyter:
        url = f"http://127.0.0.1:{port}{BASE}"
        try:
            for _ in range(300):
                try:
                    if httpx2.get(f"{url}api").status_code == 200:
                        break
                except httpx2.TransportError:
                    pass
                assert jupyter.poll() is None, log.read_text()
                time.sleep(0.1)
            yield service, url
        finally:
            jupyter.terminate()
            service.stop()


def test_every_word_works_through_the_proxy(hub: tuple[Service, str]) -> None:
    service, jupyter = hub
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    y = np.where(x[:, 0] > 0, "yes", "no")
    for kind in ("proxy", "proxy/absolute"):
        url = f"{jupyter}{kind}/{service.port}"
        if kind == "proxy/absolute":
            service.stop()
            service._options = ("--root-path", f"{BASE}{kind}/{service.port}")
            service.start()
        assert httpx2.get(f"{url}/v2").status_code in (302, 401, 403)  # Jupyter itself asks for its token
        with remote(url, service.token) as backend:
            backend.check()
            job = backend.submit(TrainRequest(name="m", data=x, target=y, model="linear", epochs=3, patience=0))
            assert sum(isinstance(event, EpochEnd) for event in job.events()) == 3
            job.result(600)
            backend.submit(ExportRequest(model="m")).result(600)
            found = backend.submit(PredictRequest(model="m", data=x)).result(600)
            assert (np.asarray(found.columns["prediction"]) == y).mean() > 0.8
            name = backend.models.get("m").signature.inputs[0].name
            assert len(backend.infer("m", {name: x}).outputs["prediction"]) == len(x)
