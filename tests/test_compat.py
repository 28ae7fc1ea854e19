"""Private parts of other packages stand in the compat modules of a room, and nowhere else."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import maas_magics

PACKAGE = Path(maas_magics.__file__).parent

UNDOCUMENTED = ("uvicorn.protocols", "torch.fx.experimental", "torch.nn.modules.transformer", "ipykernel")
"""Modules without a private name whose makers promise nothing."""

UNDOCUMENTED_NAMES = {
    *("shell_channel_thread", "shell_channel_thread_main", "shell_stream", "check_worker_number_rationality"),
}
"""Attributes of that kind."""

PROTOCOLS = re.compile(r"_(repr_\w+|render_traceback|ipython_\w+)_|_esm|_css")
"""Names with an underscore that IPython and anywidget ask of others, and document."""

TUPLES = {"_replace", "_asdict", "_fields"}
"""Those of named tuples, which Python documents."""


def is_private(name: str) -> bool:
    dunder = name.startswith("__") and name.endswith("__")
    return name.startswith("_") and name != "_" and not dunder and not PROTOCOLS.fullmatch(name) and name not in TUPLES


def is_foreign(dotted: str) -> bool:
    """Whether a module is neither Python's nor ours."""
    top = dotted.partition(".")[0]
    return bool(top) and top not in sys.stdlib_module_names and top not in ("maas_magics", "__main__")


def sources() -> dict[str, str]:
    """Every module's source by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(("maas_magics", *parts)).removesuffix(".__init__")] = path.read_text()
    return found


def is_compat(module: str) -> bool:
    return "compat" in module.split(".")


class Classes:
    """Which private names the classes of some sources make themselves, and which of them have bases of others."""

    def __init__(self, trees: dict[str, ast.Module]) -> None:
        self._bases: dict[str, set[str]] = defaultdict(set)
        self._own: dict[str, set[str]] = defaultdict(set)
        for tree in trees.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    self._bases[node.name] |= {ast.unparse(base).partition("[")[0] for base in node.bases}
                    self._own[node.name] |= set(_made(node))

    def own(self, name: str) -> set[str]:
        """Names of a class and of its bases here."""
        return self._own[name].union(*(self.own(base) for base in self._bases[name] if base in self._bases))

    def is_derived(self, name: str) -> bool:
        """Whether a base, near or far, is not written here."""
        return any(base not in self._bases or self.is_derived(base) for base in self._bases[name])


def _made(owner: ast.ClassDef) -> Iterator[str]:
    """Private names that a class defines, or sets on ``self``."""
    for node in ast.walk(owner):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value  # a slot


def _is_self(node: ast.expr) -> bool:
    upper = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    return upper or (isinstance(node, ast.Name) and node.id in ("self", "cls"))


def _docstrings(tree: ast.AST) -> set[int]:
    """Ids of the texts that stand by themselves."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def found_in(tree: ast.Module, classes: Classes, packages: set[str]) -> Iterator[tuple[ast.AST, str]]:
    """Private parts of other packages that a module uses, each with where it stands."""
    docstrings = _docstrings(tree)
    parameters = {arg.arg for node in ast.walk(tree) if isinstance(node, ast.arguments) for arg in node.kwonlyargs}
    in_text = re.compile(rf"\b({'|'.join(sorted(packages))})(\.\w+)*\._\w")

    def walk(node: ast.AST, around: ast.ClassDef | None) -> Iterator[tuple[ast.AST, str]]:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = []
        for name in names:
            whole = name.startswith(tuple(f"{module}." for module in UNDOCUMENTED)) or name in UNDOCUMENTED
            if is_foreign(name) and (whole or any(map(is_private, name.split(".")))):
                yield node, name
        if isinstance(node, ast.Attribute) and node.attr in UNDOCUMENTED_NAMES:
            yield node, ast.unparse(node)
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not _is_python(node.value):
            own = classes.own(around.name) if around is not None else set()
            mine = around is not None and (node.attr in own or not classes.is_derived(around.name))
            if not (mine if _is_self(node.value) else node.attr in own):
                yield node, ast.unparse(node)
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            if called in ("getattr", "setattr", "hasattr", "delattr", "attrgetter"):
                texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
                if any(is_private(part) or part in UNDOCUMENTED_NAMES for text in texts for part in text.split(".")):
                    yield node, ast.unparse(node)
            for keyword in node.keywords:
                if keyword.arg is not None and is_private(keyword.arg) and keyword.arg not in parameters:
                    yield node, f"{ast.unparse(node.func)}({keyword.arg}=…)"
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if in_text.search(text) and id(node) not in docstrings:
            yield node, repr(text)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name in UNDOCUMENTED_NAMES:
            yield node, node.name
        for child in ast.iter_child_nodes(node):
            yield from walk(child, node if isinstance(node, ast.ClassDef) else around)

    yield from walk(tree, None)


def _is_python(node: ast.expr) -> bool:
    """Whether it is a module of Python's own, as in ``os._exit``, by its usual name."""
    return isinstance(node, ast.Name) and node.id in sys.stdlib_module_names


SOURCES = sources()
TREES = {module: ast.parse(source) for module, source in SOURCES.items()}
CLASSES = Classes(TREES)
PACKAGES = {
    name.partition(".")[0]
    for tree in TREES.values()
    for node in ast.walk(tree)
    for name in (
        [alias.name for alias in node.names]
        if isinstance(node, ast.Import)
        else [str(node.module)]
        if isinstance(node, ast.ImportFrom)
        else []
    )
    if is_foreign(name)
} | {"ipykernel"}


def test_private_parts_of_other_packages_are_used_in_compat_modules_alone() -> None:
    wrong = [
        f"{module}, line {getattr(node, 'lineno', '?')}: {what}"
        for module, tree in TREES.items()
        if not is_compat(module)
        for node, what in found_in(tree, CLASSES, PACKAGES)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_rooms_that_have_such_a_module_are_known() -> None:
    assert {module.split(".")[1] for module in SOURCES if is_compat(module)} == {"core", "service", "sweeps", "widgets"}


def test_what_uses_a_private_part_says_in_which_versions_it_was_seen() -> None:
    silent = []
    for module, tree in TREES.items():
        if not is_compat(module):
            continue
        for place, node in enumerate(tree.body):
            if not [*found_in(ast.Module([node], []), CLASSES, PACKAGES)]:
                continue
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                told = ast.get_docstring(node) or ""
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):  # what stands below a constant
                told = ast.unparse(tree.body[place + 1]) if place + 1 < len(tree.body) else ""
            else:
                continue  # imports, of what the classes and functions below tell
            if "Seen in" not in told:
                silent.append(f"{module}, line {node.lineno}")
    assert silent == []


FOUND = {
    "a private module": "import torch._dynamo",
    "a part of one": "from torch._inductor.lowering import lowerings",
    "a private name of an open module": "from torch.nn.modules.batchnorm import _NormBase",
    "an undocumented module": "from uvicorn.protocols.http.h11_impl import H11Protocol",
    "an attribute of a module": "import torch\nx = torch._C.DisableTorchFunction",
    "an attribute behind others": "import torch\nx = torch.nn.modules.batchnorm._BatchNorm",
    "an attribute of an object": "def f(trial):\n    return trial._trial_id",
    "one that is set": "def f(program):\n    program._example_inputs = None",
    "one by its name": "x = getattr(object(), '_workers', ())",
    "one behind others by its name": "from operator import attrgetter\nx = attrgetter('kernel._lock')",
    "an undocumented attribute": "def f(kernel):\n    return kernel.shell_stream",
    "an undocumented attribute by its name": "def f(kernel):\n    return getattr(kernel, 'shell_stream')",
    "a private option": "from torch.fx import wrap\nwrap(_allow=True)",
    "a name in a text": "import sys\nx = 'torch._dynamo' in sys.modules",
    "what a class inherits": "import torch\nclass A(torch.nn.Module):\n    def f(self):\n        return self._buffers",
    "what it inherits through another": (
        "import torch\nclass A(torch.nn.Module):\n    pass\nclass B(A):\n    def f(self):\n        return super()._apply(1)"
    ),
}

FINE = {
    "its own name": "class A:\n    def __init__(self):\n        self._x = 1\n    def f(self, other):\n        return other._x",
    "its own name under a foreign base": (
        "import torch\nclass A(torch.nn.Module):\n    def f(self):\n        self._x = 1\n        return self._x"
    ),
    "Python's own": "import os, sys\nos._exit(0)\nsys._getframe(1)",
    "a named tuple": "def f(x):\n    return x._replace(a=1)",
    "what IPython asks for": "class A(list):\n    def _repr_html_(self):\n        return super()._repr_html_()",
    "a docstring": "def f():\n    '''As torch._dynamo does.'''",
    "a dunder": "import torch\nx = torch.__version__",
}


@pytest.mark.parametrize("source", FOUND.values(), ids=FOUND.keys())
def test_what_is_private_is_found(source: str) -> None:
    tree = ast.parse(source)
    assert [*found_in(tree, Classes({"x": tree}), PACKAGES)]


@pytest.mark.parametrize("source", FINE.values(), ids=FINE.keys())
def test_what_is_not_private_is_left_alone(source: str) -> None:
    tree = ast.parse(source)
    assert [*found_in(tree, Classes({"x": tree}), PACKAGES)] == []


def test_no_class_replaces_a_private_part_of_a_base_of_others() -> None:
    """Which no reading of the source finds: the classes themselves are asked."""
    wrong = []
    for module in sorted(SOURCES):
        if is_compat(module) or module.endswith("__main__"):
            continue
        try:
            loaded = importlib.import_module(module)
        except ImportError:  # what is not installed
            continue
        made = {node.name: {*_made(node)} for node in ast.walk(TREES[module]) if isinstance(node, ast.ClassDef)}
        for name, kind in vars(loaded).items():
            if not inspect.isclass(kind) or kind.__module__ != module:
                continue
            own = {part for part in made.get(name, ()) if is_private(part)}
            for base in kind.__mro__[1:]:
                begins = getattr(vars(base).get("__init__"), "__code__", None)
                theirs = {*vars(base), *(begins.co_names if begins else ())}
                if is_foreign(base.__module__):
                    wrong += [f"{module}.{name}.{part}, of {base.__qualname__}" for part in sorted(own & theirs)]
    assert not wrong, "\n".join(wrong)


def test_the_files_that_run_with_the_lowest_versions_are_there_and_of_every_room() -> None:
    here = Path(__file__).parent
    tree = ast.parse((here / "conftest.py").read_text())
    [files] = [
        {part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)}
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LOWEST"
    ]
    assert [name for name in files if not (here / str(name)).is_file()] == []
    rooms = {path.parent.name for path in here.glob("*/test_*.py")} - {"browser", "fuzz"}
    assert {str(name).partition("/")[0] for name in files if "/" in str(name)} == rooms
