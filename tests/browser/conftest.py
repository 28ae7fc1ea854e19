"""One JupyterLab and one page for each module and kernel version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

pytest.importorskip("playwright", reason="the browser tests need playwright")
pytest.importorskip("jupyterlab", reason="the browser tests need JupyterLab")

from lab import THEME, Lab, Tab, open_tab, start_lab  # noqa: E402

OTHER_KERNEL = "ipykernel==7.3.*"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives a real JupyterLab in Chromium")


@pytest.fixture(scope="session", autouse=True)
def chromium() -> None:
    """Skip where no browser is installed."""
    if shutil.which("chromium") is None:
        pytest.skip("the browser tests need chromium")


@pytest.fixture(scope="session")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the other kernel version, to stand before the installed one."""
    folder = tmp_path_factory.mktemp("kernel")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), OTHER_KERNEL]
    subprocess.run(pip, check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab in the dark theme; the parameter ``"7.3"`` gives its kernels the other version, and
    ``"notebook"`` is Jupyter Notebook in its place."""
    wanted = getattr(request, "param", "")
    before = [str(request.getfixturevalue("overlay"))] if wanted == "7.3" else []
    folder = tmp_path_factory.mktemp("lab")
    path = os.pathsep.join([*before, str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {"PYTHONPATH": path, "MAAS_STORE": str(folder / "store"), "MAAS_UI": ""}
    app = "notebook" if wanted == "notebook" else "jupyterlab"
    with start_lab(folder, app=app, env=env, settings={THEME: {"theme": "JupyterLab Dark"}}) as server:
        yield server
        # Cells may have started the service of this store, which outlives their kernels.
        stop = "from maas_magics.session import current; current().stop_serving(None)"
        subprocess.run([sys.executable, "-c", stop], env=os.environ | env, check=True, timeout=60)


@pytest.fixture(scope="module")
def tab(lab: Lab) -> Iterator[Tab]:
    """A page; at the end its console may hold no complaint about the view."""
    with open_tab() as page:
        yield page
        assert not [line for line in page.console if "maas" in line or "anywidget" in line], page.console
