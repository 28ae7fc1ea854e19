"""`%maas search` in a real shell, in the kernel and on a service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from maas_magics.remote.connect import stop_local

TRAIN = "%train near --data faq --task embedding --pairs question,answer --model textcnn --epochs 3 --lr 0.005"


@pytest.fixture(autouse=True)
def variables(ip: InteractiveShell) -> None:
    topics = ["trains", "bread", "rivers", "music"] * 15
    ip.user_ns["faq"] = pd.DataFrame(
        {
            "question": [f"what is there to know of {topic} number {i}" for i, topic in enumerate(topics)],
            "answer": [f"all about {topic.upper()} stands in book {i}" for i, topic in enumerate(topics)],
        }
    )
    ip.user_ns["asked"] = ["of trains", "of music"]


@pytest.fixture
def local(ip: InteractiveShell, store: Path) -> Iterator[None]:
    """Whatever service a test starts ends with it."""
    yield
    ip.run_cell("%connect kernel")
    stop_local(store)


def test_a_line_searches(cell: Callable[[str], Any], failing: Callable[[str], str]) -> None:
    assert cell(TRAIN).info.task == "embedding"
    found = cell('%maas search near "what of rivers" --data faq -k 3')
    assert len(found) == 3 and found.queries == ("what of rivers",)
    assert len(cell("%maas search near asked -d faq --k 2")) == 4
    assert cell('%maas search near "rivers" --data faq --column question').column == "question"
    assert "--data takes one table" in failing('%maas search near "rivers" --data faq faq')
    assert cell('%maas search near "what of rivers" faq -k 3').to_pandas().equals(found.to_pandas())
    assert "%maas search near QUERY df" in failing('%maas search near "rivers"')
    assert "--data takes one table" in failing('%maas search near "rivers" faq --data faq')
    assert "needs QUERY" in failing("%maas search near --data faq")


@pytest.mark.usefixtures("local")
def test_a_service_finds_what_the_kernel_finds(cell: Callable[[str], Any]) -> None:
    cell("%connect local")
    assert cell(TRAIN).info.vector
    there = cell('%maas search near "what of rivers" --data faq').to_pandas()
    vectors = np.stack(list(cell("%predict near faq[['answer']]")["prediction"]))
    assert vectors.dtype == np.float32 and vectors.shape[0] == 60
    assert cell("%evaluate near --data faq").rows == 60
    cell("%export near")
    cell("%connect kernel")  # of the same store
    here = cell('%maas search near "what of rivers" --data faq').to_pandas()
    np.testing.assert_allclose(here.score, there.score, atol=1e-4)
    np.testing.assert_allclose(np.stack(list(cell("%predict near faq[['answer']]")["prediction"])), vectors, atol=1e-4)


def test_entities_are_drawn_beside_the_answers(
    ip: InteractiveShell, cell: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    told = [f"{'so ' * (i % 4)}{'anna' if i % 2 else 'bob'} went" for i in range(60)]
    spans = [[{"start": 3 * (i % 4), "end": len(text) - 5, "label": "name"}] for i, text in enumerate(told)]
    ip.user_ns["rows"] = pd.DataFrame({"text": told, "spans": spans})
    cell("%train ner --data rows --target spans --epochs 8 --lr 0.01")
    capsys.readouterr()
    found = cell('%predict ner "so anna went"')
    assert len(found) == 1 and "so [anna | name] went" in capsys.readouterr().out
    for line in ("%predict ner rows;", "%predict ner rows --out kept"):
        cell(line)
        assert "| name]" not in capsys.readouterr().out


@pytest.mark.parametrize("word", ["question=text(clean=html+lower)", '"question=text(clean=html+lower)"'])
def test_cleaning_is_declared_on_a_line(word: str, ip: InteractiveShell, cell: Callable[[str], Any]) -> None:
    ip.user_ns["faq"]["page"] = np.arange(60.0)
    cell(f"%train m --data faq --target page --features question --feature {word} --model textcnn --epochs 1")
    clean, plain = (cell(f"%predict m {text}").prediction[0] for text in ('"<b>OF</b> trains"', '" of  trains"'))
    assert clean == pytest.approx(plain, abs=1e-6)
