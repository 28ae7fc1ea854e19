"""Who may import whom, read from the code's own imports."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import maas_magics

PACKAGE = Path(maas_magics.__file__).parent

ROOMS = {
    # room: (rooms it may import, packages it may import)
    "api": ("", "msgspec platformdirs"),
    "core": ("api", "msgspec numpy torch pyarrow safetensors onnx onnxruntime fsspec platformdirs pandas duckdb polars "
                    "torchmetrics tokenizers transformers peft gguf huggingface_hub PIL soundfile soxr timm sklearn "
                    "threadpoolctl jinja2 llguidance diffusers openvino ml_dtypes torch_pruning "
                    "skl2onnx onnxmltools xgboost lightgbm cryptography keyring "
                    "tensorflow keras tf2onnx h5py executorch coremltools ai_edge_litert litert_torch"),
    "job": ("api", "msgspec"),
    "local": ("api job core", "msgspec"),
    "remote": ("api job core", "msgspec numpy pyarrow httpx2 keyring"),
    "service": ("api", "msgspec numpy pyarrow starlette httptools uvicorn prometheus_client"),
    "trackers": ("api", "msgspec tensorboard mlflow"),
    "callbacks": ("api job trackers", ""),
    "sweeps": ("api job core callbacks", "msgspec numpy optuna"),
    "widgets": ("api", "msgspec IPython ipywidgets anywidget traitlets matplotlib"),
    "magics": ("api", "IPython"),
    "endpoint": ("api", "msgspec"),
    "connection": ("api core local remote endpoint", ""),
    "runs": ("api job core callbacks sweeps widgets endpoint connection", "msgspec"),
    "session": ("api core widgets runs", "msgspec"),
    "extension": ("magics session", ""),
    "functions": ("api session", ""),
    "__init__": ("api extension functions", ""),
}  # fmt: skip

TRAINING = ("steps", "tuning", "compiling", "", "distributed")
"""Rooms of ``core/training``, the room itself among them: each may import those before it. Only `run` starts the processes of a distributed one."""

CORE = (
    *(
        "compat",
        "processors",
        "registry",
        "memory",
        "tracing",
        "seal",
        "delivery",
        "chunks",
        "data",
        "features",
        "networks",
        "graphs",
    ),
    *("tasks", "losses"),
    *(
        "architectures",
        "store",
        "model",
        "comparing",
        "searching",
        "highlighting",
        "pictures",
        "gallery",
        "runtimes",
        "graph_model",
        "generation",
        "inference",
        "generate",
        "context",
    ),
    *(
        "compressors",
        "exporters",
        "evaluate",
        "export",
        "any_length",
        "publish",
        "importers",
        "batches",
        "serialization",
        "training",
        "deserialization",
        "copying",
        "protecting",
        "dispatch",
    ),
)
"""Rooms of ``core``: each may import those before it."""

FOR_TYPES_ONLY = {"magics": "session", "session": "torch", "functions": "torch endpoint"}
"""What a room may name under ``TYPE_CHECKING`` besides: nothing of it runs."""


@dataclass(frozen=True)
class Import:
    importer: str
    """Dotted module that imports."""
    target: str
    """Dotted module that is imported."""
    line: int
    typing: bool
    """Whether it stands under ``TYPE_CHECKING``."""
    late: bool
    """Whether it stands inside a function."""

    @property
    def own(self) -> bool:
        return self.target.partition(".")[0] == "maas_magics"

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: {self.target}"


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(("maas_magics", *parts)).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def room(module: str) -> str:
    return (module.split(".") + ["__init__"])[1]


def imports(module: str) -> Iterator[Import]:
    """Every import of a module, wherever it stands."""

    def walk(node: ast.AST, typing: bool, late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module, alias.name, child.lineno, typing, late)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}, line {child.lineno}: a relative import"
                for alias in child.names:
                    whole = f"{child.module}.{alias.name}"
                    yield Import(module, whole if whole in MODULES else str(child.module), child.lineno, typing, late)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for part in child.body:
                    yield from walk(ast.Module([part], []), True, late)
                for part in child.orelse:
                    yield from walk(ast.Module([part], []), typing, late)
            else:
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from walk(child, typing, late or inside)

    yield from walk(ast.parse(MODULES[module].read_text()), False, False)


EVERY = [found for module in MODULES for found in imports(module)]


def test_every_room_is_in_the_table() -> None:
    assert {room(module) for module in MODULES} == set(ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_what_the_table_allows(name: str) -> None:
    rooms, packages = ROOMS[name]
    types = FOR_TYPES_ONLY.get(name, "").split()
    wrong = []
    for found in EVERY:
        if room(found.importer) != name:
            continue
        if found.own:
            target = room(found.target)
            joins = found.importer == "maas_magics.service.__main__" and target == "local"
            fine = joins or target in (name, *rooms.split()) or (found.typing and target in types)
        else:
            target = found.target.partition(".")[0]
            fine = target in sys.stdlib_module_names or target in packages.split() or (found.typing and target in types)
        if not fine:
            wrong.append(str(found))
    assert not wrong, "\n".join(wrong)


def test_nothing_is_allowed_that_nobody_needs() -> None:
    used = {(room(found.importer), room(found.target)) for found in EVERY if found.own}
    assert [
        (name, other) for name, (rooms, _) in ROOMS.items() for other in rooms.split() if (name, other) not in used
    ] == []


def test_the_table_itself_is_the_design() -> None:
    """The rules by name, so that nobody widens the table without meaning to."""
    allowed = {name: set(rooms.split()) for name, (rooms, _) in ROOMS.items()}
    assert not allowed["api"] and ROOMS["api"][1] == "msgspec platformdirs"
    assert allowed["core"] == {"api"} and "IPython" not in ROOMS["core"][1]
    assert allowed["local"] == {"api", "job", "core"}
    assert not (allowed["magics"] | allowed["widgets"]) & {"core", "local", "session"}
    assert allowed["remote"] == {"api", "job", "core"} and allowed["service"] == {"api"}
    assert [name for name, rooms in allowed.items() if rooms & {"local", "remote"}] == ["connection"]


def test_the_map_for_people_says_the_same() -> None:
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text()
    told = text.partition("room          may import\n")[2].partition("```")[0]
    lines = [line.split(maxsplit=1) for line in told.splitlines()]
    assert {name: set(rooms.split(", ")) - {"nothing"} for name, rooms in lines} == {
        name: set(rooms.split()) for name, (rooms, _) in ROOMS.items()
    }
    order = [name for name, _ in lines]
    assert all(order.index(other) < order.index(name) for name, (rooms, _) in ROOMS.items() for other in rooms.split())


def test_the_rooms_of_a_training_look_one_way() -> None:
    place = "maas_magics.core.training."

    def order(module: str) -> int:
        first = module.removeprefix(place).partition(".")[0]
        return TRAINING.index(first if first in TRAINING else "")

    inside = [found for found in EVERY if found.importer.startswith(place) and found.target.startswith(place)]
    back = [found for found in inside if order(found.importer) < order(found.target)]
    assert {found.importer for found in back} == {place + "run"}
    assert {found.target for found in back} == {place + "distributed.launch"}
    folders = {path.name for path in (PACKAGE / "core/training").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(TRAINING) - {""}


def test_the_rooms_of_the_core_look_one_way() -> None:
    place = "maas_magics.core."

    def order(module: str) -> int:
        return CORE.index(module.removeprefix(place).partition(".")[0])

    inside = [found for found in EVERY if found.importer.startswith(place) and found.target.startswith(place)]
    assert [str(found) for found in inside if order(found.importer) < order(found.target)] == []
    rooms = {
        path.stem for path in (PACKAGE / "core").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__"} == set(CORE)


def test_only_the_tasks_themselves_compare_names_of_tasks() -> None:
    """A task is asked what is to be known of it: so a new kind of task is a file, and changes no other."""
    names = {"regression", "binary", "multiclass", "multilabel"}
    wrong = []
    for module, path in MODULES.items():
        if module.startswith("maas_magics.core.tasks."):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            sides += [node.value] if isinstance(node, ast.MatchValue) else []
            if any(isinstance(part, ast.Constant) and part.value in names for side in sides for part in ast.walk(side)):
                wrong.append(f"{module}, line {node.lineno}")
    assert wrong == []


def test_nothing_asks_what_kind_of_column_a_feature_is() -> None:
    """A feature is asked what is to be known of it: so a new kind of column is a file, and changes no other."""
    kinds = {"Number", "Timestamp", "Category", "TensorFeature"}
    wrong = []
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            asked = node.args[1:] if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance" else []
            asked += [node.cls] if isinstance(node, ast.MatchClass) else []
            if any(isinstance(part, ast.Name) and part.id in kinds for one in asked for part in ast.walk(one)):
                wrong.append(f"{module}, line {node.lineno}")
    assert wrong == []


def test_a_remote_backend_reads_rows_and_runs_nothing() -> None:
    """It takes the core's data, what makes a request portable, and how chunks are read; no training, inference or export."""
    targets = {found.target for found in EVERY if room(found.importer) == "remote" and ".core." in found.target}
    readers = ("data.", "features.", "serialization", "chunks")
    allowed = tuple(f"maas_magics.core.{name}" for name in readers)
    assert all(target.startswith(allowed) for target in targets)


def test_one_module_alone_joins_the_service_to_what_it_serves() -> None:
    joined = {
        found.importer
        for found in EVERY
        if room(found.importer) == "service" and found.own and room(found.target) == "local"
    }
    assert joined <= {"maas_magics.service.__main__"}


def test_modules_import_one_another_in_no_circle() -> None:
    """Late imports, and those for types, counted."""
    ahead: dict[str, set[str]] = defaultdict(set)
    for found in EVERY:
        if found.own and found.target != found.importer:
            ahead[found.importer].add(found.target)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in sorted(ahead[module]):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(MODULES):
        visit(module, ())


def test_no_module_is_imported_by_a_name_that_is_made_up_at_run_time() -> None:
    """`import_module` would slip past the table; only registries, and the package's own lazy names, may use it."""
    users = {module for module, path in MODULES.items() if "import_module(" in path.read_text()}
    assert users <= {"maas_magics", "maas_magics.core.registry", "maas_magics.core.context"}


def test_a_remote_backend_reaches_nothing_that_trains() -> None:
    """Also by way of what it imports: a client understands rows and sends them."""
    found = {module for module in MODULES if room(module) == "remote"}
    while (
        more := {each.target for each in EVERY if each.importer in found and each.own and each.target in MODULES}
        - found
    ):
        found |= more
    training = ("training", "inference", "exporters", "evaluate", "publish", "generation")
    assert sorted(m for m in found if m.startswith(tuple(f"maas_magics.core.{name}" for name in training))) == []
