"""What every test may use: a store of its own, and a real IPython shell with the magics in it."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run: a verdict must not hang on luck, nor on how fast the machine is.
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")


PROCESSES = ("service/", "browser/")
"""Tests of several processes that wait for each other, which a busy machine may hold up."""


LOWEST = (
    *("test_compat.py", "compat/test_old_stores.py", "api/test_errors.py", "magics/test_magic_shell.py"),
    *("core/test_compat_torch.py", "core/test_data_sources.py", "core/test_data_files.py", "core/test_export.py"),
    *("core/test_export_formats.py", "core/test_loop_exact.py", "core/test_train_compiled.py"),
    *("core/test_train_graphs.py", "core/test_train_memory.py", "core/test_train_metrics.py"),
    *("core/test_train_workers.py", "core/test_track_tensorboard.py", "local/test_compat_optuna.py"),
    *(
        "local/test_sweep.py",
        "service/test_compat_uvicorn.py",
        "service/test_short.py",
        "service/test_triton_client.py",
    ),
    *("widgets/test_compat_kernel.py", "widgets/test_view_busy.py", "widgets/test_view_history.py"),
)
"""Files that ask most of other packages, some of each room: ``make lowest`` runs their quick tests with the lowest
versions of those packages. The others hang on code of our own, and would take an hour more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their files; those of processes are asked once more before they count as failed, and told of."""
    here = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        if place.startswith(PROCESSES):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if place in LOWEST:
            item.add_marker(pytest.mark.lowest)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """What a test draws does not depend on the tests before it."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store and a new session that speaks to it; nothing of the tester's own is touched."""
    import torch

    from maas_magics import session

    torch.set_num_threads(1)
    place = tmp_path / "store"
    monkeypatch.setenv("MAAS_STORE", str(place))
    monkeypatch.delenv("MAAS_UI", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(session, "_session", None)
    return place


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    """One IPython shell for the whole run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        config = Config()
        config.HistoryManager.hist_file = ":memory:"
        config.InteractiveShell.colors = "nocolor"
        yield InteractiveShell.instance(config=config)
        InteractiveShell.clear_instance()


@pytest.fixture
def ip(shell: InteractiveShell, store: Path) -> Iterator[InteractiveShell]:
    """That shell, empty, with the extension loaded over an empty store."""
    # What `shell.reset()` does, without its full garbage collection, which would be most of a test's time.
    for names in (shell.user_ns, shell.user_ns_hidden, shell.history_manager.output_hist):
        names.clear()
    shell.init_user_ns()
    shell.run_line_magic("load_ext", "maas_magics")
    yield shell
    shell.run_line_magic("unload_ext", "maas_magics")


@pytest.fixture
def cell(ip: InteractiveShell) -> Callable[[str], Any]:
    """Function that runs a cell, raises what it raised, and returns its value."""

    def run(source: str) -> Any:
        result = ip.run_cell(source, store_history=True)
        result.raise_error()
        return result.result

    return run


@pytest.fixture
def failing(ip: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Function that runs a cell that must fail, and returns what the person reads: two or three lines."""

    def run(source: str) -> str:
        capsys.readouterr()
        result = ip.run_cell(source, store_history=True)
        assert result.error_in_exec is not None, f"{source!r} did not fail"
        text = capsys.readouterr().out.strip()
        assert 1 <= len(text.splitlines()) <= 3, text
        assert type(result.error_in_exec).__name__ in text
        return text

    return run
