"""What is used of torch's inside does on this torch what it says, and without it the open way is taken."""

from __future__ import annotations

import contextlib
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from maas_magics.api.errors import IncompatibleVersion
from maas_magics.core.compat import compiled, export, modules, optimizers
from maas_magics.core.compat.dispatch import DispatchMode, tensors_in, without_overrides
from maas_magics.core.compat.loaders import FreeLoader, end_workers, forget_iterator, unwatched, workers_of
from maas_magics.core.compat.operators import is_operator, operator_of
from maas_magics.core.training.steps import adam, step

pytestmark = pytest.mark.lowest


def test_an_operator_is_known_by_its_names_and_by_what_it_takes() -> None:
    found = operator_of(torch.ops.aten.add.Tensor)
    assert found is not None and found[:3] == ("aten", "add", "Tensor")
    assert found.arguments == ["self", "other", "alpha"] and found.returns == ["TensorType"]
    assert operator_of(torch.ops.aten.relu.default)[2] == "default"  # type: ignore[index]


@pytest.mark.parametrize("function", [torch.add, torch.ops.aten.add, len, None])
def test_nothing_else_is_an_operator(function: Any) -> None:
    assert not is_operator(function) and operator_of(function) is None


class _Names(DispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(operator_of(func).name)  # type: ignore[union-attr]
        return func(*args, **(kwargs or {}))


def test_a_mode_sees_the_operators_within_it() -> None:
    x = torch.ones(2, 2)
    with _Names() as names:
        x @ x + 1
    x * 2
    assert names.seen == ["mm", "add"]


def test_tensors_are_found_in_nested_values() -> None:
    a, b = torch.ones(1), torch.zeros(2)
    assert [id(found) for found in tensors_in(({"k": [a, 1]}, (None, b)))] == [id(a), id(b)]


def test_a_mode_does_not_see_what_runs_without_overrides() -> None:
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            with without_overrides():
                torch.ones(2) + 1
            return func(*args, **(kwargs or {}))

    x = torch.ones(2)
    with Mode():
        torch.relu(x)
    assert seen == [torch.relu]


def test_attention_believes_what_it_is_told_of_a_mask() -> None:
    transformer = sys.modules["torch.nn.modules.transformer"]
    look, mask = transformer._detect_is_causal_mask, nn.Transformer.generate_square_subsequent_mask(3)
    assert look(mask, None, 3) is True
    with contextlib.suppress(ValueError), export.masks_as_told():
        assert transformer._detect_is_causal_mask(mask, None, 3) is False
        assert transformer._detect_is_causal_mask(mask, True, 3) is True
        raise ValueError
    assert transformer._detect_is_causal_mask is look


def test_without_that_look_there_is_nothing_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    transformer = sys.modules["torch.nn.modules.transformer"]
    monkeypatch.delattr(transformer, "_detect_is_causal_mask")
    with export.masks_as_told():
        assert not hasattr(transformer, "_detect_is_causal_mask")


def test_the_onnx_exporter_reads_its_operators_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = pytest.importorskip("torch.onnx._internal._lazy_import")
    apis, times = lazy.onnxscript_apis, []
    read = apis.get_torchlib_ops
    monkeypatch.setattr(apis, "get_torchlib_ops", lambda: times.append(1) or read())
    monkeypatch.setattr(export, "_operators", [])
    counted = apis.get_torchlib_ops
    for _ in range(2):
        with contextlib.suppress(ValueError), export.operators_kept():
            assert [each.name for each in apis.get_torchlib_ops()] == [each.name for each in read()]
            raise ValueError
        assert apis.get_torchlib_ops is counted
    assert len(times) == 1


def test_an_exporter_without_such_a_list_reads_it_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = pytest.importorskip("torch.onnx._internal._lazy_import")
    monkeypatch.delattr(lazy, "onnxscript_apis")
    with export.operators_kept():
        assert not hasattr(lazy, "onnxscript_apis")


def test_shapes_run_without_values() -> None:
    with export.shapes_only():
        answer = nn.Linear(3, 2)(torch.empty(5, 3))
    assert answer.shape == (5, 2) and type(answer) is not Tensor


def test_a_shape_that_hangs_on_values_ends_it() -> None:
    reached = False
    with export.shapes_only():
        torch.nonzero(torch.empty(5))
        reached = True
    assert not reached


def test_a_program_becomes_plain_values_and_loses_its_example() -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.ones(4, 3),))
    told = export.graph_in_words(program, program.graph_module)
    assert [node["target"] for node in told["graph_module"]["graph"]["nodes"]] == ["torch.ops.aten.linear.default"]
    assert told["schema_version"]["major"] == 8 and program.example_inputs is not None
    export.drop_examples(program)
    assert program.example_inputs is None


def test_a_torch_that_writes_graphs_another_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._export.serde import serialize

    program = torch.export.export(nn.Linear(3, 2), (torch.ones(4, 3),))
    monkeypatch.delattr(serialize, "_dataclass_to_dict")
    with pytest.raises(IncompatibleVersion, match="Sending a module as a graph needs torch._export.serde") as caught:
        export.graph_in_words(program, program.graph_module)
    assert version("torch") in caught.value.message and "--upgrade maas-magics torch" in caught.value.hint


def test_what_a_function_runs_becomes_a_graph_of_operators() -> None:
    kept = torch.full((3,), 2.0)
    graph = compiled.operators_graph(lambda x: torch.relu(x) * kept, [torch.ones(3)])
    called = [operator_of(node.target).name for node in graph.graph.nodes if node.op == "call_function"]  # type: ignore[union-attr]
    assert called == ["relu", "mul"]
    assert graph(torch.tensor([-1.0, 0.0, 3.0])).tolist() == [0.0, 0.0, 6.0]


def test_a_torch_without_the_compiler_s_runner_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(torch._C, "_aoti")
    with pytest.raises(IncompatibleVersion, match="Compiling steps needs torch._C._aoti"):
        compiled.open_library(tmp_path / "step.so", torch.device("cpu"))


def test_a_torch_without_the_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch._inductor.decomposition", None)
    with pytest.raises(IncompatibleVersion, match=r"torch\._inductor\.decomposition"):
        compiled.load_operators()


def _gradient(backward: Any) -> Tensor:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    backward((x**2).sum())
    assert x.grad is not None
    return x.grad


def test_the_backward_pass_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert optimizers.backward_engine() is not None
    assert _gradient(step.make_backward()).tolist() == [2.0, 4.0]
    monkeypatch.setattr(step, "backward_engine", lambda: None)
    assert step.make_backward() is Tensor.backward
    assert _gradient(step.make_backward()).tolist() == [2.0, 4.0]


def test_without_a_backward_engine_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.autograd.Variable, "_execution_engine")
    assert optimizers.backward_engine() is None


def test_without_adams_kernel_the_optimizer_takes_its_own_step(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    inner = torch.optim.Adam([weight], fused=True)
    assert optimizers.FUSED_ADAM is not None and optimizers.FUSED_ADAMW is not None
    assert adam.direct_step(inner) != inner.step
    monkeypatch.setattr(adam, "FUSED_ADAM", None)
    assert adam.direct_step(inner) == inner.step


def test_a_scheduler_does_not_warn_of_an_optimizer_that_is_marked(recwarn: pytest.WarningsRecorder) -> None:
    inner = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(inner, 1)
    optimizers.mark_stepped(inner)
    scheduler.step()
    assert not recwarn.list


@pytest.mark.parametrize(
    ("module", "batch", "either"),
    [(nn.BatchNorm2d(1), True, True), (nn.InstanceNorm1d(1), False, True), (nn.LayerNorm(1), False, False)],
)
def test_norms_are_told_apart(module: nn.Module, batch: bool, either: bool) -> None:
    assert modules.is_batch_norm(module) is batch and modules.is_norm(module) is either


def test_a_module_hears_that_it_was_converted() -> None:
    class Heard(modules.MovedModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.heard = nn.Linear(1, 1), 0

        def moved(self) -> None:
            self.heard += 1

    module = Heard()
    assert module.double() is module and module.heard == 1 and module.layer.weight.dtype is torch.float64
    nn.Sequential(module).float()
    assert module.heard == 2


def test_workers_of_a_loader_are_known_and_ended() -> None:
    loader = FreeLoader(TensorDataset(torch.ones(4)), num_workers=1, persistent_workers=True)
    iterator = iter(loader)
    [worker] = workers_of(iterator)
    end_workers(iterator)
    assert not worker.is_alive()
    forget_iterator(loader)
    assert len(list(loader)) == 4
    end_workers(loader._iterator)


def test_a_loader_without_workers_has_none_to_end() -> None:
    iterator = iter(DataLoader(TensorDataset(torch.ones(4))))
    assert list(workers_of(iterator)) == [] and list(workers_of(None)) == []
    end_workers(iterator)
    end_workers(None)


def test_more_workers_than_processors_are_somebodys_choice(recwarn: pytest.WarningsRecorder) -> None:
    FreeLoader(TensorDataset(torch.ones(4)), num_workers=1000)
    assert not recwarn.list


def test_torch_watches_no_workers_of_another_thread() -> None:
    found = []

    def read() -> None:
        iterator = unwatched(iter(DataLoader(TensorDataset(torch.ones(4)), num_workers=1)))
        found.append(iterator._worker_pids_set)
        found.append(len(list(iterator)))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert found == [False, 4]
