"""`%%chat` in a real shell, and in a notebook's kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

import maas_magics as maas
from maas_magics.core.features.chat import CHATML, rendered
from maas_magics.remote.connect import stop_local
from maas_magics.session import current

TALKS = [
    [{"role": "user", "content": f"After {i}?"}, {"role": "assistant", "content": f"It is {i + 1}."}] for i in range(40)
]


@pytest.fixture(autouse=True)
def model(ip: InteractiveShell) -> None:
    maas.train("talker", data=pd.DataFrame({"messages": TALKS}), task="language", epochs=1)


def said(*messages: dict[str, str], tokens: int = 8) -> str:
    text = rendered(CHATML, messages, True, {})
    return "".join(chunk.delta for chunk in maas.generate("talker", text, max_steps=tokens) if chunk.delta)


def test_a_cell_continues_the_conversation(cell: Callable[[str], Any], capsys: pytest.CaptureFixture[str]) -> None:
    first = {"role": "user", "content": "After 3?"}
    answer = said(first)
    capsys.readouterr()
    assert cell("%%chat talker --max-tokens 8\nAfter 3?") is None
    assert capsys.readouterr().out.startswith(answer)
    assert current().conversations["talker"] == [first, {"role": "assistant", "content": answer}]
    second = {"role": "user", "content": "And then?"}
    wanted = said(first, {"role": "assistant", "content": answer}, second)
    cell('%chat talker "And then?" --max-tokens 8')
    assert current().conversations["talker"][-1]["content"] == wanted
    cell('%chat talker "After 3?" --max-tokens 8 --system "Be brief."')
    assert [one["role"] for one in current().conversations["talker"]] == ["system", "user", "assistant"]
    cell("%chat talker --new")
    assert current().conversations["talker"] == []


def test_a_slip_is_told_and_leaves_the_conversation_as_it_was(
    cell: Callable[[str], Any], failing: Callable[[str], str]
) -> None:
    cell('%chat talker "After 3?" --max-tokens 3')
    before = list(current().conversations["talker"])
    assert "Nothing is said" in failing("%chat talker")
    assert "stands in the cell, and on the line" in failing('%%chat talker "a"\nb')
    assert "temperature is -1" in failing('%chat talker "a" --temperature -1')
    assert "no model 'nobody'" in failing('%chat nobody "a"')
    assert current().conversations["talker"] == before


def test_what_is_there_when_someone_stops_it_stays(
    cell: Callable[[str], Any], ip: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = current()

    class Interrupted:
        """A stream whose reader is interrupted after its second chunk."""

        def __init__(self, stream: Any) -> None:
            self.stream, self.taken = stream, 0

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            self.taken += 1
            if self.taken == 3:
                raise KeyboardInterrupt
            return next(self.stream)

        def close(self) -> None:
            self.stream.close()

    whole = session.generate
    monkeypatch.setattr(session, "generate", lambda request: Interrupted(whole(request)))
    result = ip.run_cell('%chat talker "After 3?" --max-tokens 50 --temperature 2 --seed 1')
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert session.conversations["talker"][-1]["role"] == "assistant"
    loop = session.backend.loader.generator("talker").loop  # type: ignore[attr-defined]
    for _ in range(1_000):
        if not loop.states:
            break
        loop._thread and loop._thread.join(0.01)
    assert not loop.states


def test_a_saved_notebook_has_the_answer_without_a_widget(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAS_STORE", str(store))
    monkeypatch.delenv("MAAS_UI", raising=False)
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[
            nbformat.v4.new_code_cell("%load_ext maas_magics"),  # type: ignore[no-untyped-call]
            nbformat.v4.new_code_cell("%%chat talker --max-tokens 8\nAfter 3?"),  # type: ignore[no-untyped-call]
        ]
    )
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    (output,) = notebook.cells[1].outputs
    answer = said({"role": "user", "content": "After 3?"})
    assert output.data["text/plain"].startswith(answer) and "text/html" in output.data
    assert not any("widget" in kind for kind in output.data)


def test_a_choice_is_of_whole_texts(cell: Callable[[str], Any], ip: InteractiveShell) -> None:
    ip.user_ns["kinds"] = ["one, or two", "three"]
    for typed, wanted in (("one,two", "one two"), ('"one,two"', "one two"), ("kinds", "one, or two|three")):
        found = cell(f'%predict talker "After 4?" --choice {typed}')["prediction"][0]
        assert found in wanted.split("|" if "|" in wanted else " ")


def test_a_server_of_openais_api_is_asked_from_the_same_cells(
    cell: Callable[[str], Any], failing: Callable[[str], str], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "kv-memory is 'much'" in failing("%serve talker --kv-memory much")
    cell('%chat talker "After 3?" --max-tokens 8')
    wanted = current().conversations["talker"]
    text = cell('%predict talker "After 4?" --max-tokens 6')["prediction"][0]
    endpoint = cell("%serve talker --kv-memory 100MB")
    try:
        cell(f"%connect openai+{endpoint.url} --token-file {endpoint.token}")
        capsys.readouterr()
        cell("%maas models")
        assert "talker" in capsys.readouterr().out
        cell('%chat talker "After 3?" --max-tokens 8')
        assert current().conversations["talker"] == wanted
        assert cell('%predict talker "After 4?" --max-tokens 6')["prediction"][0] == text
        assert cell('%predict talker "After 4?" --choice one,two')["prediction"][0] in ("one", "two")
        cell("%maas status")
    finally:
        cell("%connect kernel")
        stop_local(store)
