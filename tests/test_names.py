"""The public names, what loading them costs, and what is written about them."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import msgspec
import pytest

import maas_magics
from maas_magics import api, functions

HEAVY = ("torch", "onnxruntime", "pandas", "pyarrow", "matplotlib.pyplot", "ipywidgets", "anywidget")
OWN = [name for name, value in vars(functions).items() if inspect.isfunction(value) and not name.startswith("_")
       and value.__module__ == functions.__name__]  # fmt: skip
API = [import_module(f"{api.__name__}.{module.name}") for module in iter_modules(api.__path__)]


def test_all_is_what_functions_offers() -> None:
    assert maas_magics.__all__ == sorted([*OWN, "MaasError", "load_ipython_extension", "unload_ipython_extension"])
    assert dir(maas_magics) == maas_magics.__all__
    for name in OWN:
        assert getattr(maas_magics, name) is getattr(functions, name)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(maas_magics.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    found = {
        node.module: [alias.name for alias in node.names] for node in block.body if isinstance(node, ast.ImportFrom)
    }
    assert found == {"maas_magics.functions": sorted(OWN), "maas_magics.api.errors": ["MaasError"]}


def test_every_error_of_ours_is_caught_by_one_name(store: Path) -> None:
    with pytest.raises(maas_magics.MaasError, match="There is no model"):
        maas_magics.remove("nobody")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        _ = maas_magics.fit


def fresh(code: str) -> str:
    """Output of code in a new interpreter, shown with the loading it must not cause."""
    whole = f"import sys\n{code}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("code", ["import maas_magics", "import maas_magics as maas; maas.train"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert fresh(code) == "[]"


def test_loading_the_extension_in_a_kernel_loads_nothing_heavy(store: Path, tmp_path: Path) -> None:
    code = f"""
import os; os.environ["IPYTHONDIR"] = {str(tmp_path)!r}
import ipykernel.ipkernel, ipykernel.zmqshell
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
ip = InteractiveShell.instance()
before = set(sys.modules)
ip.run_line_magic("load_ext", "maas_magics")
for text in ("%train --mo", "%train --data d --target ", "%train m --model ", "%export --format ", "%predict "):
    ip.Completer.use_jedi = False
    with provisionalcompleter():
        assert list(ip.Completer.completions(text, len(text))) or text == "%predict "
try:
    ip.run_line_magic("train", "--help")
    ip.run_line_magic("train", "m --ep 3")
except Exception as error:
    assert type(error).__name__ == "OptionError", error
for name in ("train", "evaluate", "export", "predict", "maas"):
    assert name in ip.magics_manager.magics["line"]
for name in [name for name in {HEAVY!r} if name in before]:
    del sys.modules[name]
sys.stdout = sys.__stdout__
"""
    assert fresh(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", OWN)
def test_a_function_tells_what_it_takes(name: str) -> None:
    function = getattr(functions, name)
    doc = inspect.getdoc(function) or ""
    first, _, rest = doc.partition("\n")
    assert first.endswith("."), doc
    parameters = [p for p in inspect.signature(function).parameters if p not in ("model", "job", "alias")]
    if parameters and "TrainRequest" not in doc:
        assert "Parameters\n----------" in rest
        for parameter in parameters:
            assert parameter in doc, f"{name} says nothing of {parameter}"


def public(module: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
            and (inspect.isclass(value) or inspect.isfunction(value))]  # fmt: skip


@pytest.mark.parametrize("module", API, ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_vocabulary_is_written_down(module: Any) -> None:
    assert inspect.getdoc(module)
    for name, value in public(module):
        assert value.__doc__, f"{name} has no docstring"
        if isinstance(value, type):
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    assert function.__doc__, f"{name}.{method} has no docstring"
        if isinstance(value, type) and issubclass(value, msgspec.Struct):
            told = value.__doc__.lower()
            fields = vars(value).get("__annotations__", {})
            for field in fields if len(fields) > 2 else ():
                assert field.lower() in told, f"{name} says nothing of {field}"
