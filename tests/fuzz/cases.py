"""What must hold of a random table at every entry point: no raw exception, and one answer for one row."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from arrays import draw_array, draw_target
from kinds import EVERY, PLAIN, draw_table
from natives import draw_native
from ways import FILES, IN_MEMORY, TYPED, CannotHold, given

from maas_magics.api.errors import MaasError
from maas_magics.api.requests import EvaluateRequest, PredictRequest, TrainRequest
from maas_magics.core.data.sources import as_numpy, open_source
from maas_magics.core.exporters import exporters
from maas_magics.core.runtimes.engine import Engine
from maas_magics.remote.backend import RemoteBackend
from maas_magics.session import Session

CASES: Counter[str] = Counter()
"""How many cases ended in which way."""


def outcome(entry: str, ask: Callable[[], Any]) -> Any:
    """What an entry point gave; None where it refused, which must be short and of the package's own errors."""
    try:
        found = ask()
    except MaasError as error:
        assert error.message and len(error.message) < 400, (entry, error.message)
        assert "Traceback" not in str(error), (entry, str(error))
        CASES["refused"] += 1
        return None
    CASES["answered"] += 1
    return found


def trained(session: Session, data: Any, target: Any, **options: Any) -> bool:
    request = TrainRequest(name="m", data=data, target=target, **{"model": "linear", "epochs": 1} | options)
    return outcome("train", lambda: session.run(request)) is not None


def answers(found: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Columns of a prediction as arrays."""
    return {name: as_numpy(values) for name, values in found.columns.items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    if one.keys() != other.keys():
        return False
    for name, values in one.items():
        if values.dtype.kind == "f":
            if not np.allclose(values, other[name], rtol=1e-5, atol=1e-6, equal_nan=True):
                return False
        elif values.tolist() != other[name].tolist():
            return False
    return True


def no_raw_exception(way: str, seed: int, session: Session, folder: Path) -> None:
    """Trained on, asked, scored: answered, or refused in two lines."""
    table, target = draw_table(seed, EVERY)
    try:
        data = given(way, table, folder)
    except CannotHold:
        CASES["not to be had"] += 1
        return
    features = {name: column for name, column in table.items() if name != target}
    with contextlib.suppress(MaasError):
        session.backend.models.delete("m")
    if not trained(session, data, target, stream=way in FILES and bool(seed % 2)):
        return
    outcome("predict the training table", lambda: session.predict(PredictRequest(model="m", data=data)))
    outcome("evaluate", lambda: session.run(EvaluateRequest(model="m", data=data)))
    other, _ = draw_table(seed + 1, EVERY)
    for features_of in (features, other):
        with contextlib.suppress(CannotHold):
            rows = given(way, features_of, folder)
            outcome("predict", lambda rows=rows: session.predict(PredictRequest(model="m", data=rows)))


def no_raw_exception_of_arrays(seed: int, session: Session) -> None:
    """Arrays, pairs and dicts of them, of every dtype, shape and layout."""
    rng = np.random.default_rng(seed)
    rows = int(rng.choice([1, 2, 12, 40, 40, 40]))
    with contextlib.suppress(MaasError):
        session.backend.models.delete("m")
    inputs = draw_array(rng, rows, plain=rng.random() < 0.4)
    data: Any = {"p": inputs, "q": draw_array(rng, rows)} if rng.random() < 0.2 else inputs
    target = draw_target(rng, rows)
    pair = rng.random() < 0.3
    model = ["linear", "mlp", "cnn", "auto"][int(rng.integers(4))]
    if not trained(session, (data, target) if pair else data, None if pair else target, model=model):
        return
    outcome("predict", lambda: session.predict(PredictRequest(model="m", data=data)))
    outcome("evaluate", lambda: session.run(EvaluateRequest(model="m", data=data, target=target)))
    outcome("evaluate a pair", lambda: session.run(EvaluateRequest(model="m", data=(data, draw_target(rng, rows)))))
    for _ in range(3):
        other = draw_array(rng, int(rng.choice([0, 1, rows])))
        outcome("predict", lambda other=other: session.predict(PredictRequest(model="m", data=other)))


def no_raw_exception_of_natives(seed: int, session: Session) -> None:
    """Types of columns that one library alone has, odd names and indices."""
    rng = np.random.default_rng(seed)
    rows = int(rng.choice([1, 3, 40, 40, 40]))
    try:
        data, target = draw_native(rng, rows)
        other, _ = draw_native(rng, rows)
    except Exception:  # the library itself refuses to make it
        CASES["not to be had"] += 1
        return
    with contextlib.suppress(MaasError):
        session.backend.models.delete("m")
    if not trained(session, data, target):
        return
    outcome("predict", lambda: session.predict(PredictRequest(model="m", data=data)))
    outcome("evaluate", lambda: session.run(EvaluateRequest(model="m", data=data)))
    outcome("predict another", lambda: session.predict(PredictRequest(model="m", data=other)))
    outcome("evaluate another", lambda: session.run(EvaluateRequest(model="m", data=other)))


def _trained_on(seed: int, way: str, session: Session, folder: Path) -> tuple[dict[str, Any], Any] | None:
    """Features of the table of a seed, by name and given in a way, once a model is trained on it; None if none is."""
    table, target = draw_table(seed, PLAIN)
    with contextlib.suppress(MaasError):
        session.backend.models.delete("m")
    try:
        if not trained(session, given(way, table, folder), target):
            return None
        features = {name: column for name, column in table.items() if name != target}
        return features, given(way, features, folder)
    except CannotHold:
        return None


def one_answer(seed: int, session: Session, service: RemoteBackend, folder: Path) -> None:
    """In tables of every library, in files, typed in a cell, through the service as a table, JSON and binary."""
    way = (*IN_MEMORY, *FILES)[seed % (len(IN_MEMORY) + len(FILES))]
    made = _trained_on(seed, way, session, folder)
    if made is None:
        return
    features, rows = made
    asked = session.backend.predict
    first = outcome(way, lambda: asked(PredictRequest(model="m", data=rows)))
    assert first is not None, "the training table itself was refused"
    expected = answers(first)
    for other in (*IN_MEMORY, *FILES, *TYPED):
        try:
            typed = other in TYPED
            data = session.read_rows(TYPED[other](features), "m") if typed else given(other, features, folder)
        except (CannotHold, MaasError):
            CASES["not to be had"] += 1
            continue
        found = outcome(other, lambda data=data: asked(PredictRequest(model="m", data=data)))
        assert found is None or same(answers(found), expected), f"{way} and {other} differ"
    found = outcome("service", lambda: service.predict(PredictRequest(model="m", data=rows)))
    assert found is not None and same(answers(found), expected), "the service answers otherwise"
    _ask_by_protocol(session, service, rows, expected)


def _ask_by_protocol(session: Session, service: RemoteBackend, rows: Any, expected: dict[str, Any]) -> None:
    """JSON and binary tensors of the raw columns, as any client sends them."""
    predictor = session.backend.loader.predictor("m")  # type: ignore[attr-defined]
    source = open_source(rows)
    raw = dict(zip([s.name for s in predictor.processor.specs], predictor.encode(source.table(), source), strict=True))
    found = outcome("binary", lambda: service.infer("m", raw))
    assert found is not None
    _agrees(found.outputs, expected)
    if any(values.dtype.kind == "f" and not np.isfinite(values).all() for values in raw.values()):
        return  # JSON has no word for them
    inputs = [
        {"name": s.name, "datatype": s.datatype, "shape": raw[s.name].shape, "data": raw[s.name].tolist()}
        for s in predictor.processor.specs
    ]
    told = httpx2.post(f"{service.place}/v2/models/m/infer", json={"inputs": inputs}, timeout=30)
    assert told.status_code == 200, told.text
    CASES["answered"] += 1
    outputs = {o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in told.json()["outputs"]}
    _agrees(outputs, expected)


def _agrees(outputs: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, values in outputs.items():
        if name not in expected:
            continue  # probabilities of many labels, which are told where they are asked for
        wanted = expected[name]
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(values.reshape(wanted.shape), wanted, rtol=1e-5, atol=1e-6)
        else:
            assert list(map(_word, values.ravel().tolist())) == list(map(_word, wanted.ravel().tolist()))


def _word(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def graph_agrees(seed: int, session: Session, folder: Path) -> None:
    """The file that `%export` makes, through ONNX Runtime."""
    made = _trained_on(seed, list(IN_MEMORY)[seed % len(IN_MEMORY)], session, folder)
    if made is None:
        return
    _, rows = made
    expected = answers(session.backend.predict(PredictRequest(model="m", data=rows)))
    loader = session.backend.loader  # type: ignore[attr-defined]
    predictor, source = loader.predictor("m"), open_source(rows)
    raw = predictor.encode(source.table(), source)
    file = folder / "model.onnx"
    exporters.get("onnx").export(loader.model(*session.backend.models.resolve("m")), file)  # type: ignore[attr-defined]
    CASES["exported"] += 1
    _agrees(Engine(file).run(raw), expected)
