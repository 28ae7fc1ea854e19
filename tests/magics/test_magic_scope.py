"""A magic in a function means the function's variables; a comment may stand behind any line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

Run = Callable[[str], Any]
Failing = Callable[[str], str]

rng = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60)})
FRAME["y"] = np.where(FRAME.a + FRAME.b > 0, "yes", "no")
TRAIN = "%train m --data df --target y --model linear --epochs 1"


@pytest.fixture(autouse=True)
def variables(ip: Any, cell: Run) -> None:
    """A global of every name that a function below has of its own, and a model."""
    wrong = FRAME.head(50)
    names = ("frame", "rows", "row", "part", "kept", "given", "k", "epochs", "column", "table", "self")
    ip.user_ns.update(dict.fromkeys(names, wrong), df=FRAME.copy(), nn=nn, pd=pd)
    cell(TRAIN)


FUNCTIONS = [
    "def ask(frame):\n    answers = %predict m frame\n    return answers",
    "def ask(frame):\n    return %predict m frame",
    "def ask(frame): return %predict m frame  # the function's own",
    "def ask(frame):\n    answers = %predict m frame;\n    return answers",
    "def ask(given):\n    frame = given.copy()\n    return %predict m frame.head(len(frame))",
    "def ask(given):\n    frame = given\n    def inner():\n        return %predict m frame\n    return inner()",
    "def ask(frame):\n    def inner():\n        def most():\n            return %predict m frame\n        return most\n"
    "    return inner()()",
    "def make(frame):\n    def inner():\n        answers = %predict m frame\n        return answers\n    return inner\n"
    "def ask(given):\n    return make(given)()",
    "def ask(frame):\n    for part in [frame]:\n        answers = %predict m part\n    return answers",
    "def ask(frame):\n    with pd.option_context('display.width', 80):\n        kept = frame\n"
    "        return %predict m kept",
    "def ask(frame):\n    k = 3\n    return %predict m frame[[c for c in frame.columns if len(c) < k]]",
    "def ask(rows):\n    return %predict m {rows[['a', 'b']]}",
    "def ask(rows):\n    return %predict m (lambda k: rows.head(k))(len(rows))",
    "def ask(frame):\n    return %maas predict m frame",
    "class Asker:\n    def __init__(self, frame):\n        self.frame = frame\n    def answers(self):\n"
    "        return %predict m self.frame\n"
    "def ask(given):\n    return Asker(given).answers()",
    "class Asker:\n    def __call__(self, frame):\n        return %predict m frame\n"
    "def ask(given):\n    return Asker()(given)",
    "def every(frame):\n    yield get_ipython().run_line_magic('predict', 'm frame')\n"
    "def ask(given):\n    return next(every(given))",
    "def ask(given):\n    return [get_ipython().run_line_magic('predict', 'm row') for row in [given]][0]",
    "def ask(given):\n    return [get_ipython().run_line_magic('predict', 'm given') for _ in range(1)][0]",
    "ask = lambda frame: get_ipython().run_line_magic('predict', 'm frame')",
    "def ask(frame, name='m'):\n    return %predict $name frame",
    "def ask(frame):\n    name = 'm'\n    return %predict {name} frame",
]


@pytest.mark.parametrize("source", FUNCTIONS)
def test_a_magic_in_a_function_means_its_variables(source: str, cell: Run, ip: Any) -> None:
    cell(source)
    assert len(cell("ask(df.head(7))")) == 7, "50 are the rows of the notebook's variable of the same name"


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("%train n --data frame --target $column --model linear --epochs epochs --validation kept", 20),
        ("%train n --data frame --target {column} --model net --epochs {epochs} --loss loss", 20),
        ("%train n --data frame --target frame.y --model linear --epochs $epochs", 20),
    ],
)
def test_training_in_a_function(line: str, rows: int, cell: Run, ip: Any) -> None:
    ip.user_ns.update(epochs=7, column="nobody", loss=None, net=None)
    cell(
        "def fit(frame, kept):\n    epochs, column, loss = 2, 'y', nn.CrossEntropyLoss()\n    net = nn.Linear(2, 2)\n"
        f"    return {line}"
    )
    model = cell("fit(df.head(20), df.tail(20))")
    assert model.epochs == 2 and model.info.target == ("y",) and "nobody" not in str(model.info.signature)


def test_evaluating_attaching_and_asking_in_a_cell_within_a_function(cell: Run, ip: Any) -> None:
    ip.user_ns.update(job=None)
    cell("def score(frame):\n    figures = %evaluate m --data frame\n    return figures")
    assert cell("score(df.head(11))").rows == 11
    cell("def go(frame):\n    job = %train n --data frame --target y --model linear --epochs 1 -b\n    job.result(60)\n"
         "    return %maas attach job")  # fmt: skip
    assert cell("go(df.head(30))").result(60).ref == "n:1"
    cell(
        "def build(width):\n    return get_ipython().run_cell_magic('train', 'o --data df --target y --epochs 1', "
        "'hidden = width\\nnn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))')"
    )
    ip.user_ns["width"] = 999
    assert cell("build(5)").info.parameters == 2 * 5 + 5 + 5 + 1
    assert "hidden" not in ip.user_ns


def test_a_variable_that_holds_nothing_yet_is_not_the_notebooks(cell: Run, ip: Any, failing: Failing) -> None:
    cell("def ask():\n    answers = %predict m frame\n    frame = df\n    return answers")
    assert "There is no variable 'frame'." in failing("ask()")


def test_answers_go_to_no_variable_that_only_the_function_can_set(cell: Run, failing: Failing, ip: Any) -> None:
    cell("def ask(frame):\n    found = None\n    %predict m frame --out found\n    return found")
    assert "'found' is a variable of the function" in failing("ask(df)") and "found = %predict m" in failing("ask(df)")
    cell("def ask(frame):\n    %predict m frame --out everywhere\n    return len(everywhere)")
    assert cell("ask(df.head(3))") == 3


def test_a_function_of_a_module_means_the_modules_variables(cell: Run, tmp_path: Path) -> None:
    (tmp_path / "own_helpers.py").write_text(
        "from IPython import get_ipython\nframe = None\ndef ask(given):\n    global frame\n    frame = given\n"
        "    return get_ipython().run_line_magic('predict', 'm frame')\n"
    )
    cell(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport own_helpers\nsys.path.pop(0)")
    assert len(cell("own_helpers.ask(df.head(4))")) == 4


def test_cells_that_hold_no_magic_are_left_as_they_are(cell: Run, ip: Any) -> None:
    cell("def plain(run_line_magic):\n    return run_line_magic('predict', 'm frame')")
    assert cell("plain(lambda *words: words)") == ("predict", "m frame")
    assert cell("def f(x):\n    return x % len('train')\nf(7)") == 2
    ip.run_line_magic("unload_ext", "maas_magics")
    assert not [one for one in ip.ast_transformers if type(one).__name__ == "References"]
    names = [one.__name__ for one in ip.input_transformer_manager.token_transformers]
    assert "MagicReturn" not in names
    ip.run_line_magic("load_ext", "maas_magics")


# --- completion ---


@pytest.mark.parametrize(
    ("above", "line", "offered"),
    [
        ("def ask(frames, n=3):\n", "    answers = %predict m fra", ["frames", "frame"]),
        ("def ask(frames):\n    framed = frames.copy()\n    for framing in [1]:\n", "        return %predict m fram",
         ["frames", "framed", "framing", "frame"]),
        ("def outer(frame_a):\n    def inner(frame_b):\n", "        return %predict m frame_", ["frame_a", "frame_b"]),
        ("", "def ask(frames): return %predict m frames", ["frames"]),
        ("def other(frames):\n    pass\n", "%predict m fra", ["frame"]),
        ("def fit(frame):\n", "    %train m --data frame --target ", []),
        ("", "%train m --data frame --target ", ["a", "b", "y"]),
        ("", "%predict m frame  # --to", []),
    ],
)  # fmt: skip
def test_completion_in_a_function(above: str, line: str, offered: list[str], ip: Any) -> None:
    from IPython.core.completer import provisionalcompleter

    ip.Completer.use_jedi = False
    with provisionalcompleter():
        text = above + line
        found = [completion.text for completion in ip.Completer.completions(text, len(text))]
    if not offered:
        assert not {"a", "b", "--top"} & set(found)
    else:
        assert found == offered or sorted(found) == sorted(offered)


# --- comments ---


@pytest.mark.parametrize(
    "line",
    [
        '%predict m df  # it\'s a "comment" (of mine',
        "%predict m df # --top 3",
        "%predict m df[df['a'] != '#']  # '#' in quotes is none",
        "%predict m df.head(60)# close",
        "%predict m \\\n  df  # on the second line",
        "%predict m {df}  # {braces}",
        "x = %predict m df  # assigned\nx",
        "if True:\n    x = %predict m df  # indented\nx",
        "%predict m df  # is this right?\n",
        "%maas predict m df  # by the other name",
        "%time %predict m df  # timed",
    ],
)
def test_a_comment_may_stand_behind_a_line(line: str, cell: Run) -> None:
    assert len(cell(line)) == 60


def test_comments_behind_every_other_magic(cell: Run, capsys: pytest.CaptureFixture[str], ip: Any) -> None:
    for line in ("%maas models m", "%maas status", "%maas jobs", "%maas", "%maas help", "%export m", "%connect kernel"):
        cell(f"{line}  # it's fine")
    assert len(cell("%%predict m  # rows below\na,b\n1,2")) == 1
    assert cell("%predict m df;  # silent") is None
    assert cell("%maas alias m:1 best # c") is None and cell("%evaluate m@best --data df # c").rows == 60


def test_a_comment_in_quotes_or_braces_is_none(cell: Run, ip: Any) -> None:
    ip.user_ns["hash"] = FRAME.rename(columns={"a": "# a"})
    assert cell('%train h --data hash --target y --model linear --epochs 1 --features "# a"').info.signature
    assert len(cell("%predict h {hash[['# a']]}  # c")) == 60


# --- the README, as it is pasted ---

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def birds(ip: Any, cell: Run) -> None:
    """The tables that the README speaks of."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"bill": rng.normal(size=90), "island": rng.choice(["Dream", "Biscoe"], 90)})
    table["species"] = np.where(table.bill > 0, "Adelie", "Gentoo")
    ip.user_ns.update(df=table, new_birds=table.drop(columns="species").head(5))


@pytest.mark.parametrize("together", [True, False])
def test_the_first_block_runs_as_it_is_pasted(together: bool, birds: None, cell: Run) -> None:
    block = BLOCKS[0]
    assert "%train" in block and "#" in block
    parts = [block] if together else [line for line in block.splitlines() if line.strip()]
    answers = [cell(part) for part in parts][-1]
    assert next(iter(answers.columns)).startswith("prediction") or "species" in answers.columns
    assert len(answers) == 5


def test_the_other_blocks_of_python_run_too(birds: None, cell: Run) -> None:
    for block in BLOCKS[1:]:
        cell(block)


def test_the_lines_of_the_readme_are_lines_that_there_are(cell: Run) -> None:
    from maas_magics.magics import maas
    from maas_magics.magics.words import split

    flags = {flag for module in maas.MAGICS.values() for option in module.COMMAND.options for flag in option.flags}
    for line in re.findall(r"`%%?(?:maas )?train ([^`]*)`", README):
        unknown = [word for word in split(line.replace("…", "")) if word.startswith("--") and word not in flags]
        assert not unknown, line
