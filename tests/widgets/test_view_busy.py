"""What a page asks while a cell runs, in a real kernel: it is answered before the cell ends."""

from __future__ import annotations

import os
from typing import Any

import ipykernel
import pytest
from jupyter_client.manager import start_new_kernel

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.skipif(ipykernel.version_info[0] < 7, reason="a kernel before 7 reads its messages between two cells"),
]

CELL = "from thread_job import train; from maas_magics.widgets import watch; watch(train(epochs=100000))"


def test_a_new_page_is_answered_and_its_stop_is_heard_while_the_cell_runs() -> None:
    manager, client = start_new_kernel(kernel_name="python3", env=os.environ.copy())
    try:
        cell = client.execute(CELL)
        view = opened(client)
        answers = {}
        for kind in ("kernel_info_request", "comm_info_request"):
            message = client.session.msg(kind, {})
            client.shell_channel.send(message)
            answers[kind] = answer(client, message["header"]["msg_id"], cell)
        assert view in answers["comm_info_request"]["comms"]
        page = {"comm_id": "page", "target_name": "jupyter.widget.control", "data": {}}
        opening = client.session.msg("comm_open", page, metadata={"version": "1.0.0"})
        client.shell_channel.send(opening)
        states = client.session.msg("comm_msg", {"comm_id": "page", "data": {"method": "request_states"}})
        client.shell_channel.send(states)
        told = heard(client, "page")
        assert told["data"]["method"] == "update_states" and view in told["data"]["states"]
        stop = client.session.msg("comm_msg", {"comm_id": view, "data": {"method": "custom", "content": {"t": "stop"}}})
        client.shell_channel.send(stop)
        assert answer(client, cell)["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def answer(client: Any, asked: str, cell: str = "") -> dict[str, Any]:
    """Content of the reply to a message; the cell that runs must not have ended before."""
    while True:
        reply = client.get_shell_msg(timeout=60)
        parent = reply["parent_header"]["msg_id"]
        assert parent != cell, "the cell ended first"
        if parent == asked:
            return dict(reply["content"])


def opened(client: Any) -> str:
    """Id of the live view's comm, once it is open."""
    while True:
        message = client.get_iopub_msg(timeout=60)
        content = message["content"]
        if message["msg_type"] == "error":
            raise AssertionError("\n".join(content["traceback"]))
        if message["msg_type"] == "comm_open" and "snapshot" in str(content["data"].get("buffer_paths", "")):
            return str(content["comm_id"])


def heard(client: Any, comm: str) -> dict[str, Any]:
    """The next message of a comm."""
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "comm_msg" and message["content"]["comm_id"] == comm:
            return dict(message["content"])
