"""An option is declared once, and everything that takes it knows it from there."""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec
import pytest

import maas_magics as maas
from maas_magics.api.options import declared_fields
from maas_magics.api.requests import EvaluateRequest, ExportRequest, PredictRequest, TrainRequest, spec_of
from maas_magics.api.specs import SPECS, CallSpec
from maas_magics.api.verbs import VERBS
from maas_magics.api.wire import decode_request, encode_request
from maas_magics.magics import predict, train
from maas_magics.magics.verbs import VerbMagic
from maas_magics.service.openapi import describe

KINDS = [
    (TrainRequest, train, maas.train),
    (EvaluateRequest, VerbMagic("evaluate"), maas.evaluate),
    (ExportRequest, VerbMagic("export"), maas.export),
    (PredictRequest, predict, maas.predict),
]


@pytest.mark.parametrize(("kind", "magic", "function"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_declared_is_known_to_magic_function_and_schema(kind: Any, magic: Any, function: Any) -> None:
    schema = json.loads(describe())["components"]["schemas"][kind.__name__]["properties"]
    signature, told = inspect.signature(function).parameters, magic.COMMAND.help()
    options = {option.key: option for option in magic.COMMAND.options}
    for name, field in declared_fields(kind).items():
        assert name in schema
        if field.option is None:
            assert name not in options and name not in signature, "nobody says it"
            continue
        assert schema[name]["description"] == field.option.help
        assert name in signature and (name in options) == field.option.typed
        assert not field.option.typed or (options[name].flags == field.flags and field.option.help in told)
        given = signature[name].default
        assert given == field.unsaid or (given is inspect.Parameter.empty and field.needed)


def test_the_request_of_a_training_is_its_six_specs_side_by_side() -> None:
    names = [name for spec in SPECS for name in spec.__struct_fields__]
    assert len(SPECS) == 6 and list(TrainRequest.__struct_fields__) == ["name", *names]
    assert len(set(names)) == len(names) and not set(names) & set(CallSpec.__struct_fields__)
    request = TrainRequest(name="m", lr=0.1, epochs=3, freeze=("a",))
    whole = {name: value for spec in SPECS for name, value in msgspec.structs.asdict(spec_of(request, spec)).items()}
    assert TrainRequest(name="m", **whole) == request
    for name in names:
        assert f"\n{name} : " in inspect.getdoc(TrainRequest), name  # type: ignore[operator]
        assert name == "better_than" or f"\n{name} : " in inspect.getdoc(maas.train)  # type: ignore[operator]


def test_a_request_that_was_sent_before_there_were_specs_is_read() -> None:
    fields = {"name": "m", "data": "rows.csv", "target": "y", "params": {"hidden": [8]}, "drop": ["a"], "lr": "auto"}
    sent = msgspec.msgpack.encode({"kind": "train", "fields": fields})
    request = decode_request(sent)
    assert request == TrainRequest(
        name="m", data="rows.csv", target="y", params={"hidden": [8]}, drop=("a",), lr="auto"
    )
    back = msgspec.msgpack.decode(encode_request(request))
    assert back["kind"] == "train" and back["fields"].keys() == set(TrainRequest.__struct_fields__)
    assert list(VERBS) == [
        *("train", "evaluate", "export", "import", "push", "pull", "sync"),
        *("key", "encrypt", "rotate-key", "sign", "predict"),
    ]
