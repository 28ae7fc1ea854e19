"""A Dataset that is defined in a notebook, read by worker processes of a real kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ROWS = """
%load_ext maas_magics
import multiprocessing, os, torch
from torch import nn
from torch.utils.data import Dataset
class Rows(Dataset):
    def __len__(self): return 48
    def __getitem__(self, index):
        print(end="")  # a kernel's output goes through threads of its own
        open(f"{PLACE}/{os.getpid()}", "w").close()
        return torch.randn(6), index % 3
rows, net = Rows(), nn.Linear(6, 3)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    store, place = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("pids")
    env = os.environ | {"MAAS_STORE": str(store), "MAAS_UI": "static", "OMP_NUM_THREADS": "1"}
    manager, client = start_new_kernel(kernel_name="python3", env=env)
    try:
        assert said(client, f"PLACE = {str(place)!r}\n" + ROWS) == ""
        yield manager, client, place
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def said(client: Any, code: str) -> str:
    """What a cell prints, or the name of its error."""
    found: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            found.append(message["content"]["text"])
        elif message["msg_type"] == "error":
            found.append(message["content"]["ename"])

    client.execute_interactive(code, output_hook=hear, timeout=120, stop_on_error=False)
    return "".join(found)


LEFT = "print(multiprocessing.active_children())"


def test_a_cell_trains_on_it(kernel: Any) -> None:
    _, client, place = kernel
    text = said(client, "%train a --data rows --model net --epochs 2 --loader-workers 2")
    assert "Error" not in text
    assert said(client, LEFT) == "[]\n"
    workers = {file.name for file in Path(place).iterdir()} - {said(client, "print(os.getpid())").strip()}
    assert len(workers) == 2


def test_an_interrupt_keeps_the_best_epoch_and_ends_the_workers(kernel: Any) -> None:
    manager, client, place = kernel
    said(client, f"[os.remove(f'{place}/{{name}}') for name in os.listdir({str(place)!r})]")
    line = "%train b --data rows --model net --epochs 100000 --patience 0 --loader-workers 2"
    asked = client.execute(line, stop_on_error=False)  # a kernel may drop what is sent right after an error else
    while len(list(Path(place).iterdir())) < 2:
        time.sleep(0.05)
    time.sleep(1)
    manager.interrupt_kernel()
    while (reply := client.get_shell_msg(timeout=120))["parent_header"].get("msg_id") != asked:
        pass
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert said(client, LEFT) == "[]\n"
    assert said(client, "import maas_magics as maas; print([m.name for m in maas.models()])").strip() == "['a', 'b']"
