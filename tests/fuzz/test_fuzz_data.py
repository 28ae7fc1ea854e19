"""Random tables through every entry point.

``MAAS_FUZZ`` in the environment is the number of tables of each test; a case is one table at one entry point.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from cases import (
    CASES,
    graph_agrees,
    no_raw_exception,
    no_raw_exception_of_arrays,
    no_raw_exception_of_natives,
    one_answer,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from serving import in_thread
from ways import FILES, IN_MEMORY

from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client
from maas_magics.session import Session

TABLES = int(os.environ.get("MAAS_FUZZ", "12"))

SEEDS = st.integers(0, 2**32 - 1)

quietly = settings(
    max_examples=TABLES,
    deadline=None,
    derandomize="MAAS_FUZZ" not in os.environ,
    database=None,
    phases=[Phase.generate],  # a seed says nothing that could be made smaller
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", autouse=True)
def counted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Says at the end how many cases there were."""
    yield
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"\n{sum(CASES.values()):,} cases: {dict(CASES.most_common())}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def session(folder: Path) -> Session:
    torch.set_num_threads(1)
    return Session(str(folder / "store"), notify=lambda text: None)


@pytest.fixture(scope="module")
def service(session: Session) -> Iterator[RemoteBackend]:
    """The same models through a real service."""
    with in_thread(session.backend) as url:
        backend = RemoteBackend(Client(url, lambda: ""))
        yield backend
        backend.close()


@pytest.mark.parametrize("way", [*IN_MEMORY, *FILES])
@quietly
@given(seed=SEEDS)
def test_no_table_ends_in_a_raw_exception(way: str, seed: int, session: Session, folder: Path) -> None:
    no_raw_exception(way, seed, session, folder)


@settings(quietly, max_examples=4 * TABLES)
@given(seed=SEEDS)
def test_no_array_ends_in_a_raw_exception(seed: int, session: Session) -> None:
    no_raw_exception_of_arrays(seed, session)


@settings(quietly, max_examples=4 * TABLES)
@given(seed=SEEDS)
def test_no_type_of_one_library_ends_in_a_raw_exception(seed: int, session: Session) -> None:
    no_raw_exception_of_natives(seed, session)


@quietly
@given(seed=SEEDS)
def test_a_row_has_one_answer_however_it_is_given(
    seed: int, session: Session, service: RemoteBackend, folder: Path
) -> None:
    one_answer(seed, session, service, folder)


@settings(quietly, max_examples=max(4, TABLES // 20))
@given(seed=SEEDS)
def test_the_exported_graph_answers_the_same(seed: int, session: Session, folder: Path) -> None:
    graph_agrees(seed, session, folder)
