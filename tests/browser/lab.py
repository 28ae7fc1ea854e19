"""A JupyterLab of its own on 127.0.0.1, and a page of it driven with Playwright."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Locator, Page, sync_playwright

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
QUIET = {"@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False}}
THEME = "@jupyterlab/apputils-extension/themes"

_IDLE = """() => { const w = window.jupyterapp?.shell?.currentWidget, k = w?.sessionContext?.session?.kernel;
  return w?.context?.isReady && k && k.connectionStatus === 'connected' && k.status === 'idle'; }"""
_DONE = """i => { const c = document.querySelectorAll('.jp-Notebook .jp-Cell')[i];
  return /\\[\\d+\\]/.test(c?.querySelector('.jp-InputPrompt')?.textContent ?? ''); }"""


@dataclass(frozen=True)
class Lab:
    """A running server: where it is, the folder it serves, and where in it notebooks are opened."""

    url: str
    token: str
    root: Path
    notebooks: str = "lab/tree"

    def write(self, name: str, cells: Sequence[str]) -> Path:
        """Write a notebook of code cells."""
        book = nbformat.v4.new_notebook()
        book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        book.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
        path = self.root / name
        nbformat.write(book, path)
        return path


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _await_server(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=1).read()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if process.poll() is not None:
                raise RuntimeError(log.read_text()[-3000:]) from None
            time.sleep(0.1)
    raise TimeoutError(log.read_text()[-3000:])


@contextlib.contextmanager
def start_lab(
    folder: Path,
    *,
    app: str = "jupyterlab",
    env: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Lab]:
    """Start a JupyterLab, or a Jupyter Notebook, with a home of its own, and stop it at the end.

    Parameters
    ----------
    folder : Path
        Empty folder for everything it writes.
    app : {"jupyterlab", "notebook"}
    env : mapping, optional
        More environment for the server and its kernels.
    settings : mapping, optional
        JupyterLab user settings by plugin id.
    """
    root, home = folder / "work", folder / "home"
    for path in (root, home):
        path.mkdir(parents=True)
    for plugin, values in {**QUIET, **(settings or {})}.items():
        path = home / "settings" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    places = {
        "HOME": "home",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    token, port, log = secrets.token_hex(16), _free_port(), home / "lab.log"
    options = [
        "--no-browser",
        "--ip=127.0.0.1",
        "--allow-root",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={root}",
        f"--IdentityProvider.token={token}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        # Lets a test wait for the kernel itself: the page's own indicator says "idle" before it is connected.
        f"--{'LabApp' if app == 'jupyterlab' else 'JupyterNotebookApp'}.expose_app_in_browser=True",
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", app, *options],
            env={**os.environ, **{name: str(home / place) for name, place in places.items()}, **(env or {})},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=root,
        )
        try:
            _await_server(f"http://127.0.0.1:{port}/api/status?token={token}", process, log)
            where = "lab/tree" if app == "jupyterlab" else "notebooks"
            yield Lab(f"http://127.0.0.1:{port}", token, root, where)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass
class Tab:
    """One page; what its console complained about is in ``console``."""

    page: Page
    console: list[str] = field(default_factory=list)

    def open(self, lab: Lab, name: str, *, wait: bool = True) -> None:
        """Open a notebook in a workspace of its own."""
        self.page.goto(f"{lab.url}/{lab.notebooks}/{name}?token={lab.token}&reset")
        self.page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell", timeout=60_000)
        if wait:
            self.wait_idle()

    def wait_idle(self) -> None:
        """Wait until the kernel is connected and idle; a key pressed earlier is lost."""
        self.page.wait_for_function(_IDLE, timeout=60_000)

    def cell(self, index: int) -> Locator:
        """A cell of the notebook."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def run(self, index: int, *, wait: bool = False) -> Locator:
        """Run a cell, and wait for its end if asked to."""
        self.cell(index).locator(".jp-InputArea-editor").click()
        self.page.keyboard.press("Control+Enter")
        if wait:
            self.wait_done(index)
        return self.cell(index)

    def wait_done(self, index: int, timeout: float = 30) -> None:
        """Wait until a cell has its number."""
        self.page.wait_for_function(_DONE, arg=index, timeout=timeout * 1000)

    def save(self, path: Path) -> nbformat.NotebookNode:
        """Save the notebook and read what was saved."""
        before = path.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        for _ in range(100):
            self.page.wait_for_timeout(50)
            if path.stat().st_mtime_ns != before:
                break
        self.page.wait_for_timeout(200)
        return nbformat.read(path, as_version=4)


@contextlib.contextmanager
def open_tab(*, dark: bool = False, width: int = 1000, height: int = 900, scale: float = 1) -> Iterator[Tab]:
    """Start Chromium with one page.

    Parameters
    ----------
    dark : bool
        Colour scheme that the system asks for.
    width, height : int
        CSS pixels of the page.
    scale : float
        Device pixels of a CSS pixel.
    """
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        context = browser.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            color_scheme="dark" if dark else "light",
        )
        tab = Tab(context.new_page())
        tab.page.on("pageerror", lambda error: tab.console.append(f"pageerror: {error}"))
        tab.page.on("console", lambda line: tab.console.append(line.text) if line.type == "error" else None)
        try:
            yield tab
        finally:
            browser.close()
