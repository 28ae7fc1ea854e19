"""The Open Inference Protocol to the letter: bodies, errors, and what a hostile client may send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import Service, in_thread

from maas_magics.api.backend import Inferred
from maas_magics.api.signature import NUMPY
from maas_magics.local.backend import LocalBackend

ONES = {"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [1.0] * 8}


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url, headers=service.headers, timeout=600) as client:
        yield client


def infer(http: httpx2.Client, *inputs: Any, model: str = "net", **more: Any) -> httpx2.Response:
    return http.post(f"/v2/models/{model}/infer", json={"inputs": list(inputs), **more})


def refused(answer: httpx2.Response, status: int = 400) -> str:
    """Text of an error, of the shape that the protocol asks for."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert isinstance(told["error"], str) and told["error"]
    return str(told["error"])


def test_health_has_a_body_that_tells(http: httpx2.Client) -> None:
    for path in ("live", "ready"):
        answer = httpx2.get(http.base_url.join(f"/v2/health/{path}"))
        assert answer.status_code == 200 and answer.json() == {"live": True, "ready": True}


def test_server_metadata_with_and_without_a_slash(http: httpx2.Client) -> None:
    assert http.get("/v2").json() == http.get("/v2/").json()
    assert set(http.get("/v2").json()) == {"name", "version", "extensions", "code"}


@pytest.mark.parametrize("data", [[1.0] * 16, [[1.0] * 8] * 2], ids=["flat", "nested"])
def test_values_are_flat_or_nested(data: Any, http: httpx2.Client, here: LocalBackend) -> None:
    answer = infer(http, {**ONES, "shape": [2, 8], "data": data}, id="abc").json()
    expected = here.infer("net", {"x": np.ones((2, 8), np.float32)}).outputs
    assert answer["model_name"] == "net" and answer["model_version"] == "2" and answer["id"] == "abc"
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["probabilities"]["shape"] == [2, 3] and outputs["probabilities"]["datatype"] == "FP32"
    np.testing.assert_allclose(outputs["probabilities"]["data"], expected["probabilities"].ravel(), rtol=1e-6)
    assert outputs["prediction"]["data"] == expected["prediction"].tolist()


@pytest.mark.parametrize("datatype", [name for name in NUMPY if name != "BYTES"])
def test_narrower_numbers_are_widened_and_others_refused(datatype: str, http: httpx2.Client) -> None:
    data = [True] * 8 if datatype == "BOOL" else [1] * 8
    answer = infer(http, {**ONES, "datatype": datatype, "data": data})
    fits = np.can_cast(np.dtype(NUMPY[datatype]), np.float32, "same_kind")
    assert answer.status_code == (200 if fits else 400)


def cells(size: Any, kind: Any, flag: Any = 1.0, when: int = 10**15) -> list[dict[str, Any]]:
    """One row of the model ``cells``."""
    given = (("size", "FP64", size), ("kind", "BYTES", kind), ("flag", "FP64", flag), ("when", "INT64", when))
    return [{"name": name, "shape": [1, 1], "datatype": told, "data": [value]} for name, told, value in given]


NO_TIME = int(np.iinfo(np.int64).min)


@pytest.mark.parametrize(("size", "kind", "flag"), [(None, "p", 1.0), (0.5, None, 0.0), (None, None, 1.0)])
def test_what_is_missing_is_null(size: Any, kind: Any, flag: Any, http: httpx2.Client, here: LocalBackend) -> None:
    answer = infer(http, *cells(size, kind, flag), model="cells").json()
    told = [[np.nan if size is None else size], [kind or ""], [flag], [10**15]]
    given = {name: np.array([value], object if name == "kind" else None)
             for name, value in zip(("size", "kind", "flag", "when"), told, strict=True)}  # fmt: skip
    expected = here.infer("cells", given).outputs
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    np.testing.assert_allclose(outputs["probabilities"], expected["probabilities"].ravel(), rtol=1e-6)
    assert outputs["prediction"] == expected["prediction"].ravel().tolist() and "parameters" not in answer


def test_a_missing_value_is_refused_where_the_model_takes_none_that_is(http: httpx2.Client) -> None:
    told = refused(infer(http, {**ONES, "data": [1.0] * 7 + [None]}))
    assert "A value of the input 'x' is missing" in told
    answer = infer(http, *cells(1.0, "p", when=None), model="cells")  # type: ignore[arg-type]
    assert "are not INT64" in refused(answer)
    assert "A missing time is -9223372036854775808" in answer.json()["hint"]
    assert infer(http, *cells(1.0, "p", when=NO_TIME), model="cells").status_code == 200
    answer = http.post("/v2/models/net/infer", content=b'{"inputs":[{"data":[NaN]}]}')
    assert "is not a request" in refused(answer) and "A missing number is null" in answer.json()["hint"]


def test_answers_that_rest_on_nothing_carry_a_warning(http: httpx2.Client) -> None:
    nothing = cells(None, "never seen", None, NO_TIME)
    for kind in ("never seen", None, ""):
        answer = infer(http, *cells(None, kind, None, NO_TIME), model="cells", id="a").json()
        [told] = answer["parameters"]["warnings"]
        assert told.startswith("The answer rests on nothing") and answer["id"] == "a"
    for one in (
        cells(1.0, "p"),
        cells(None, "p", None, NO_TIME),
        cells(None, None, 1.0, NO_TIME),
        cells(None, None, None),
    ):
        assert "parameters" not in infer(http, *one, model="cells").json()
    several = [{**one, "shape": [3, 1], "data": one["data"] + two["data"] + one["data"]}
               for one, two in zip(nothing, cells(0.5, "q"), strict=True)]  # fmt: skip
    asked = {"parameters": {"binary_data_output": True}}
    answer = infer(http, *several, model="cells", **asked)
    length = int(answer.headers["inference-header-content-length"])
    told = json.loads(answer.content[:length])["parameters"]["warnings"][0]
    assert told.startswith("2 of 3 answers rest on nothing")


def test_a_warning_goes_to_whoever_asked_for_that_row(http: httpx2.Client) -> None:
    """Requests that come at once are asked at once."""
    bodies = [cells(None, None, None, NO_TIME) if number % 3 == 0 else cells(0.5, "p") for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda body: infer(http, *body, model="cells").json(), bodies))
    assert ["parameters" in answer for answer in answers] == [number % 3 == 0 for number in range(24)]


def test_a_warning_comes_with_many_rows(here: LocalBackend) -> None:
    rows = 10_000
    given = {"size": np.full(rows, np.nan), "kind": np.full(rows, "", object), "flag": np.full(rows, np.nan),
             "when": np.full(rows, NO_TIME)}  # fmt: skip
    given["flag"][:9_990] = 1.0
    found = here.infer("cells", given)
    assert found.blank is not None and found.blank.sum() == 10 and not found.blank[:9_990].any()
    given["flag"][:] = 1.0
    assert here.infer("cells", given).blank is None


def test_binary_there_and_back(http: httpx2.Client, here: LocalBackend) -> None:
    x = np.random.default_rng(1).normal(size=(4, 8)).astype("<f4")
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [4, 8], "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
            ],
            "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "prediction"}],
        }
    ).encode()
    answer = http.post(
        "/v2/models/net/infer",
        content=head + x.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    length = int(answer.headers["inference-header-content-length"])
    told = json.loads(answer.content[:length])
    expected = here.infer("net", {"x": x}).outputs
    assert told["outputs"][0]["parameters"]["binary_data_size"] == len(answer.content) - length == 48
    np.testing.assert_allclose(
        np.frombuffer(answer.content[length:], "<f4").reshape(4, 3), expected["probabilities"], rtol=1e-6
    )
    assert told["outputs"][1]["data"] == expected["prediction"].tolist()


def test_a_body_of_bytes_alone_is_the_only_input(http: httpx2.Client, here: LocalBackend) -> None:
    x = np.ones((3, 8), "<f4")
    to = {"Inference-Header-Content-Length": "0"}
    answer = http.post("/v2/models/net/infer", content=x.tobytes(), headers=to)
    assert answer.status_code == 200 and "inference-header-content-length" in answer.headers
    assert "not rows of 32 bytes" in refused(http.post("/v2/models/net/infer", content=b"abc", headers=to))
    assert "one input" in refused(http.post("/v2/models/cells/infer", content=b"abc", headers=to))


class Nowhere:
    """A backend whose model answers values that are no numbers, and texts that look like JSON's word for them."""

    models = data = None

    def infer(self, model: str, inputs: Any) -> Inferred:
        return Inferred("m:1", {"y": np.array([[1.0, np.nan], [np.inf, -np.inf]], np.float32), "t": TEXTS})


TEXTS = np.array(["null", "ü"], dtype=object)


def test_a_value_that_is_no_number_goes_in_binary_only() -> None:
    with in_thread(Nowhere()) as url, httpx2.Client(base_url=url) as http:  # type: ignore[arg-type]
        told = refused(infer(http, ONES, model="m"))
        assert "'y' holds a value that is not a number, which JSON cannot express" in told
        answer = infer(http, ONES, model="m", outputs=[{"name": "y", "parameters": {"binary_data": True}}])
        assert np.isnan(np.frombuffer(answer.content[-16:], "<f4")[1])
        texts = infer(http, ONES, model="m", outputs=[{"name": "t"}]).json()["outputs"]
        assert texts == [{"name": "t", "shape": [2], "datatype": "BYTES", "data": ["null", "ü"]}]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "is not a request"),
        (b"[]", "is not a request"),
        (b"{", "is not a request"),
        (b'{"inputs": []}', "has no inputs"),
        (b'{"inputs": [{}]}', "is not a request"),
        (b"\xff\xfe", "is not a request"),
        (b'{"inputs":[{"name":"x","shape":[1,8],"datatype":"FP32","data":[NaN]}]}', "is not a request"),
        (b'{"inputs":' + b"[" * 100_000, "is not a request"),
    ],
)
def test_bodies_that_are_no_request(body: bytes, told: str, http: httpx2.Client) -> None:
    assert told in refused(http.post("/v2/models/net/infer", content=body))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": [1, 9]}, "has 8 values; its shape [1, 9] has 9"),
        ({"shape": [-1, 8]}, "has the shape"),
        ({"shape": []}, "has the shape"),
        ({"shape": [0, 8], "data": []}, "has no values"),
        ({"shape": [2**62, 2**62]}, "has 8 values"),
        ({"shape": [2**63, 1]}, "is not a request"),
        ({"shape": [10**4000, 10**4000]}, "is not a request"),
        ({"shape": [1] * 40}, "has the shape"),
        ({"datatype": "FP128"}, "has the datatype 'FP128'"),
        ({"data": ["a"] * 8}, "are not FP32"),
        ({"data": [None] * 8}, "is missing; the model takes none"),
        ({"data": [[[1.0] * 8]]}, "are not FP32"),
        ({"data": [[]] * 100_000}, "are not FP32"),
        ({"data": [[]] * 600_000}, "has 600,000 values"),
        ({"datatype": "UINT64", "data": [2**64] * 8}, "does not fit UINT64"),
        ({"datatype": "FP16", "data": [70_000.0] * 8}, "does not fit FP16"),
        ({"data": [1e39] * 8}, "does not fit FP32"),
        ({"datatype": "INT8", "data": [300] * 8}, "does not fit INT8"),
        ({"datatype": "UINT8", "data": [-1] * 8}, "does not fit UINT8"),
        ({"datatype": "INT64", "data": [1.5] * 8}, "are not INT64"),
        ({"datatype": "BOOL", "data": [1] * 8}, "are not BOOL"),
        ({"data": 1}, "not a list"),
        ({"parameters": {"binary_data_size": 10**12}}, "bytes; 0 are left"),
        ({"parameters": {"binary_data_size": -1}}, "bytes; 0 are left"),
        ({"parameters": {"binary_data_size": True}}, "bytes; 0 are left"),
    ],
)
def test_tensors_that_do_not_hold_together(change: dict[str, Any], told: str, http: httpx2.Client) -> None:
    assert told in refused(infer(http, ONES | change))


def test_inputs_twice_and_of_different_length(http: httpx2.Client) -> None:
    assert "is there twice" in refused(infer(http, ONES, ONES))
    rows = {
        "size": (2, "FP64", [0.0, 0.0]),
        "kind": (1, "BYTES", ["p"]),
        "flag": (2, "FP64", [0, 1]),
        "when": (2, "INT64", [0, 1]),
    }
    inputs = [{"name": n, "shape": [c, 1], "datatype": d, "data": v} for n, (c, d, v) in rows.items()]
    assert "differ in their number of rows" in refused(infer(http, *inputs, model="cells"))


def test_outputs_that_are_not_there_or_not_offered(http: httpx2.Client) -> None:
    assert "has no output 'z'" in refused(infer(http, ONES, outputs=[{"name": "z"}]))
    assert "as it was published" in refused(
        http.post("/v2/repository/models/net/load", json={"parameters": {"config": "{}"}}), 501
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/net/versions/9", 404),
        ("GET", "/v2/models/net/versions/x", 400),
        ("GET", "/v2/models/..%2f..%2fetc", 404),
        ("POST", "/v2/models/..%2f..%2fetc/infer", 404),
        ("POST", "/v2/models/%00/infer", 400),
        ("POST", "/v2/models/net/versions/9/infer", 404),
        ("GET", "/v2/models/net/infer", 405),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v2", 405),
        ("GET", "/maas/v1/jobs/none", 404),
        ("GET", "/maas/v1/models/none", 404),
        ("GET", "/maas/v1/models/a@b@c", 400),
        ("HEAD", "/maas/v1/data/zz", 400),
        ("PATCH", "/maas/v1/data/zz", 400),
        ("POST", "/maas/v1/jobs", 400),
        ("POST", "/maas/v1/models/net/predict", 400),
        ("POST", "/v2/repository/index", 400),
    ],
)
def test_every_error_is_an_object_with_a_text(method: str, path: str, status: int, http: httpx2.Client) -> None:
    body = infer_body() if path.endswith("/infer") else b"junk"
    answer = http.request(method, path, content=body if method in ("POST", "PATCH") else None)
    assert answer.status_code == status, answer.text
    if method != "HEAD":
        refused(answer, status)


def infer_body() -> bytes:
    return json.dumps({"inputs": [ONES]}).encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "y", "", "\0"]) | VALUES,
        "shape": st.sampled_from([[1, 8], [8], [2, 8], [1, -8]]) | VALUES,
        "datatype": st.sampled_from([*NUMPY, "BF16"]) | VALUES,
        "data": st.just([1.0] * 8) | VALUES,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers() | VALUES}) | VALUES,
    },
)
BODY = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=3) | VALUES},
    optional={"id": VALUES, "parameters": VALUES, "outputs": st.lists(TENSOR, max_size=2) | VALUES},
)
GENTLE = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@GENTLE
@given(body=BODY)
def test_no_json_makes_the_service_fail(body: Any, http: httpx2.Client) -> None:
    answer = http.post("/v2/models/net/infer", content=json.dumps(body, allow_nan=True).encode())
    assert answer.status_code in (200, 400, 501), answer.text
    if answer.status_code != 200:
        refused(answer, answer.status_code)


@GENTLE
@given(
    head=BODY | st.binary(max_size=60),
    tail=st.binary(max_size=80),
    length=st.integers(-3, 200) | st.none() | st.text(max_size=3),
)
def test_no_bytes_make_the_service_fail(head: Any, tail: bytes, length: Any, http: httpx2.Client) -> None:
    body = head if isinstance(head, bytes) else json.dumps(head).encode()
    text = str(len(body) if length is None else length)
    told = "".join(letter for letter in text if " " < letter <= "~").encode()  # what a header may hold
    answer = http.post(
        "/v2/models/net/infer", content=body + tail, headers=[(b"inference-header-content-length", told)]
    )
    assert answer.status_code in (200, 400, 501), answer.text


def test_the_service_still_answers_after_all_that(http: httpx2.Client) -> None:
    assert infer(http, ONES).status_code == 200
