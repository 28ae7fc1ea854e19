"""Pictures of a service: by the official client of OpenAI's API, by plain HTTP, and by the same cells."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pandas as pd
import pytest
from openai import OpenAI
from PIL import Image
from serving import Service, in_thread, remote, wait_for

from maas_magics.api.requests import EvaluateRequest, GenerateRequest, PredictRequest, TrainRequest
from maas_magics.core.runtimes.pictures.session import PictureSession
from maas_magics.local.backend import LocalBackend
from maas_magics.service.settings import Settings
from maas_magics.service.tokens import Token, Tokens, digest_of

CAPTIONS = [f"a {shade} square" for shade in ("dark", "grey", "bright")]
SMALL: dict[str, Any] = {"target": "picture", "model": "flow", "params": {"width": 32, "layers": 1}}


def squares() -> pd.DataFrame:
    """Pictures of one shade, which their captions name."""
    random = np.random.default_rng(0)
    shades = random.integers(0, 3, 60)
    pictures = [np.full((6, 8), 100 * shade, dtype=np.uint8) for shade in shades]
    return pd.DataFrame({"picture": pictures, "caption": [CAPTIONS[shade] for shade in shades]})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store holds ``squares``, which draws, and ``labels``, which does not."""
    folder = tmp_path_factory.mktemp("images")
    backend = LocalBackend(str(folder / "store"))
    backend.submit(TrainRequest(name="squares", data=squares(), text="caption", epochs=4, **SMALL)).result(600)
    table = pd.DataFrame({"x": np.arange(40.0), "y": ["p", "q"] * 20})
    backend.submit(TrainRequest(name="labels", data=table, target="y", model="linear", epochs=1)).result(600)
    return folder


@pytest.fixture(scope="module")
def backend(store: Path) -> LocalBackend:
    return LocalBackend(str(store / "store"))


@pytest.fixture(scope="module")
def service(store: Path) -> Iterator[Service]:
    made = Service(store)
    yield made
    made.stop()


def pixels(data: str | None) -> np.ndarray[Any, Any]:
    """What the base64 of a PNG file shows."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(str(data)))))


def here(backend: LocalBackend, captions: list[str], **asked: Any) -> np.ndarray[Any, Any]:
    """What the kernel draws."""
    request = PredictRequest(model="squares", data=pd.DataFrame({"caption": captions}), **asked)
    return np.asarray(backend.predict(request).columns["prediction"])


def test_the_official_client_gets_the_pictures_of_the_kernel(service: Service, backend: LocalBackend) -> None:
    client = OpenAI(base_url=f"{service.url}/v1", api_key=service.token, max_retries=0)
    assert "squares" in {model.id for model in client.models.list().data}
    assert client.models.retrieve("squares").id == "squares"
    asked: dict[str, Any] = {"model": "squares", "prompt": CAPTIONS[2], "n": 3, "size": "8x6"}
    found = client.images.generate(**asked, response_format="b64_json", extra_body={"seed": 4, "steps": 3})  # type: ignore[call-overload]
    assert found.created > 0 and len(found.data) == 3
    made = np.stack([pixels(one.b64_json) for one in found.data])
    wanted = here(backend, [CAPTIONS[2]] * 3, seed=4, steps=3)
    assert made.shape == (3, 6, 8) and np.abs(made.astype(int) - wanted).max() <= 1
    plain = client.images.generate(model="squares", prompt="a dark square")
    assert pixels(plain.data[0].b64_json).shape == (6, 8)  # type: ignore[index]
    with pytest.raises(openai.BadRequestError, match="writes no text"):
        client.completions.create(model="squares", prompt="a")
    with pytest.raises(openai.NotFoundError, match="no model 'nowhere'"):
        client.images.generate(model="nowhere", prompt="a")


@pytest.mark.parametrize(
    ("change", "status", "why"),
    [
        ({"model": "labels"}, 400, "draws no pictures"),
        ({"prompt": None}, 400, "prompt"),
        ({"prompt": "a dark square " * 90}, 400, "more than 64 tokens"),
        ({"n": 0}, 400, "n is 0; 1 to 10"),
        ({"n": 11}, 400, "n is 11"),
        ({"size": "1024x1024"}, 400, "squares:1 draws 8x6"),
        ({"response_format": "url"}, 400, "no picture is kept here"),
        ({"stream": True}, 400, "not as a stream"),
        ({"steps": 1000}, 400, "steps is 1000; 1 to 100"),
        ({"guidance": -2}, 400, "guidance is -2"),
        ({"seed": "one"}, 400, "seed"),
    ],
)
def test_what_cannot_be_drawn_is_an_error_in_their_form(
    change: dict[str, Any], status: int, why: str, service: Service
) -> None:
    body = {"model": "squares", "prompt": "a dark square", **change}
    head = {"authorization": f"Bearer {service.token}"}
    found = httpx2.post(f"{service.url}/v1/images/generations", json=body, headers=head, timeout=600)
    told = found.json()
    assert found.status_code == status and set(told["error"]) == {"message", "type", "param", "code"}
    assert why in told["error"]["message"]


def test_limits_hold_for_pictures_and_places_come_back(backend: LocalBackend) -> None:
    body = {"model": "squares", "prompt": "a dark square"}
    with in_thread(backend, Settings(generations=2, max_steps=20)) as url:
        for _ in range(3):
            more = httpx2.post(f"{url}/v1/images/generations", json={**body, "n": 3}, timeout=600)
            assert more.status_code == 503 and "2 answers at a time" in more.json()["error"]["message"]
            assert httpx2.post(f"{url}/v1/images/generations", json={**body, "n": 2}, timeout=600).status_code == 200
        many = httpx2.post(f"{url}/v1/images/generations", json={**body, "steps": 30}, timeout=600)
        assert many.status_code == 403 and "steps 30" in many.json()["error"]["message"]


def test_who_hangs_up_gives_the_place_back(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    going, step = threading.Event(), PictureSession.step
    monkeypatch.setattr(PictureSession, "step", lambda *given: going.wait(600) and step(*given))
    body = {"model": "squares", "prompt": "a dark square"}
    with in_thread(backend, Settings(generations=1)) as url:
        where = f"{url}/v1/images/generations"

        def status() -> int:  # of one that is refused for its steps, if there is a place for it
            return httpx2.post(where, json={**body, "steps": 1000}, timeout=600).status_code

        assert status() == 400
        with ThreadPoolExecutor(1) as pool:
            left = pool.submit(httpx2.post, where, json=body, timeout=10)

            def is_taken() -> bool:
                nonlocal left
                if left.done() and left.exception() is None:  # one of these questions had the place just then
                    left = pool.submit(httpx2.post, where, json=body, timeout=10)
                return status() == 503

            wait_for(is_taken)
            with pytest.raises(httpx2.ReadTimeout):
                left.result()
        wait_for(lambda: status() == 400)
        going.set()
        assert httpx2.post(where, json=body, timeout=600).status_code == 200


def test_pictures_cost_tokens(backend: LocalBackend) -> None:
    tokens = Tokens(None, [Token("few", digest_of(b"few"), ("predict",), tokens_per_minute=30)])
    body, head = {"model": "squares", "prompt": "a dark square", "steps": 20}, {"authorization": "Bearer few"}
    with in_thread(backend, Settings(tokens=tokens)) as url:
        found = [httpx2.post(f"{url}/v1/images/generations", json=body, headers=head, timeout=600) for _ in range(2)]
    assert [one.status_code for one in found] == [200, 429]
    assert "30 tokens a minute" in found[1].json()["error"]["message"] and int(found[1].headers["retry-after"]) >= 1


def test_captions_are_in_no_log(backend: LocalBackend, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with in_thread(backend, Settings(access_log=str(log))) as url:
        asked = {"model": "squares", "prompt": "a secret square"}
        assert httpx2.post(f"{url}/v1/images/generations", json=asked, timeout=600).status_code == 200
    told = log.read_text()
    assert "secret" not in told
    assert [json.loads(line)["path"] for line in told.splitlines()] == ["/v1/images/generations"]


def test_the_same_cells_ask_and_train_a_service(service: Service, backend: LocalBackend) -> None:
    with remote(service.url, service.token) as there:
        request = PredictRequest(
            model="squares", data=pd.DataFrame({"caption": CAPTIONS}), steps=4, guidance=3.0, seed=2
        )
        away = np.asarray(there.predict(request).columns["prediction"])
        wanted = here(backend, CAPTIONS, steps=4, guidance=3.0, seed=2)
        assert away.dtype == np.uint8 and np.abs(away.astype(int) - wanted).max() <= 1
        params = {"seed": 2, "steps": 4, "guidance": 3.0, "every": 1}
        chunks = list(there.generate(GenerateRequest(model="squares", data=CAPTIONS[0], params=params)))
        assert len(chunks) == 4 and np.abs(chunks[-1].delta.astype(int) - wanted[0]).max() <= 1
        there.submit(TrainRequest(name="sent", data=squares(), text="caption", epochs=1, **SMALL)).result(600)
        info = there.models.get("sent")
        assert info.draws and info.task == "denoising"
        scored = there.submit(EvaluateRequest(model="sent", data=squares())).result(600)
        assert scored.rows == 60 and scored.values["rmse"] > 0
        there.models.delete("sent")
