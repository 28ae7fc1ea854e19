"""Pictures are learnt with their captions, and drawn from captions step by step."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import maas_magics as maas
from maas_magics.api.errors import DataError, MaasError, OptionError
from maas_magics.api.events import Samples
from maas_magics.api.requests import GenerateRequest, PredictRequest
from maas_magics.core.batches.noised import Noised
from maas_magics.core.features.noisy import Captioned
from maas_magics.core.networks.flow import Flow
from maas_magics.core.pictures import Pictures, as_png
from maas_magics.core.runtimes.pictures.sampler import PictureSampler, pixels
from maas_magics.core.runtimes.pictures.session import BEGUN
from maas_magics.core.training.shown import Shown, drawing
from maas_magics.session import current

if TYPE_CHECKING:
    from conftest import Lab

SMALL: dict[str, Any] = {"model": "flow", "params": {"width": 32, "layers": 2}}


def stripes(rows: int = 160, side: int = 8) -> pd.DataFrame:
    """Grey pictures with a bright half: left, right, top or bottom."""
    random = np.random.default_rng(0)
    words, pictures = [], []
    for _ in range(rows):
        word = str(random.choice(["left", "right", "top", "bottom"]))
        made = random.random((side, side)) * 0.1
        half = side // 2
        part = {"left": np.s_[:, :half], "right": np.s_[:, half:], "top": np.s_[:half], "bottom": np.s_[half:]}[word]
        made[part] += 0.9
        words.append(f"the {word} is bright")
        pictures.append(made)
    return pd.DataFrame({"picture": pictures, "caption": words})


def trained(**more: Any) -> Any:
    """A model of the stripes."""
    given = {"data": stripes(), "target": "picture", "text": "caption", "epochs": 2, **SMALL, **more}
    return maas.train("stripes", **given)


def test_pictures_are_drawn_as_their_captions_say(store: Path) -> None:
    made = trained(epochs=50, batch_size=16, lr=5e-3, ema=0.95)
    assert made.info.task == "denoising"
    assert made.info.signature.inputs[0].name == "caption" and len(made.info.signature.inputs) == 1
    assert made.info.draws and made.info.metrics["rmse"] < 0.9 * made.info.baseline["rmse"]
    captions = [f"the {word} is bright" for word in ("left", "right", "top", "bottom")]
    drawn = maas.predict("stripes", captions, seed=1)
    assert isinstance(drawn, Pictures) and len(drawn) == 4
    assert drawn.array.shape == (4, 8, 8) and drawn.array.dtype == np.uint8
    left, right, top, bottom = drawn.array.astype(float)
    assert left[:, :4].mean() > left[:, 4:].mean() + 60 and right[:, 4:].mean() > right[:, :4].mean() + 60
    assert top[:4].mean() > top[4:].mean() + 60 and bottom[4:].mean() > bottom[:4].mean() + 60
    assert drawn[0].size == (8, 8) and "the top is bright" in drawn._repr_html_()


def test_the_same_seed_draws_the_same_picture_alone_and_among_others(store: Path) -> None:
    trained()
    one = maas.predict("stripes", "the left is bright", seed=5)
    several = maas.predict("stripes", ["the top is bright", "the left is bright"], seed=4)
    again = maas.predict("stripes", ["the left is bright"], seed=5, steps=8, guidance=2.0)
    assert np.abs(one.array[0].astype(int) - several.array[1]).max() <= 1
    np.testing.assert_array_equal(one.array, again.array)
    other = maas.predict("stripes", "the left is bright", seed=6)
    assert (one.array != other.array).any()


def test_rows_of_a_table_get_the_bytes_of_files(store: Path) -> None:
    trained()
    table = stripes(3)[["caption"]].set_index(pd.Index([7, 8, 9]))
    found = maas.predict("stripes", table, seed=1)
    assert list(found.index) == [7, 8, 9] and list(found) == ["prediction"]
    assert all(value.startswith(b"\x89PNG") for value in found["prediction"])
    shown = maas.show("stripes", table)
    assert [one.title for one in shown.examples] == table["caption"].tolist()
    again = pd.DataFrame({"picture": found["prediction"], "caption": table["caption"]})
    maas.train("again", data=again, target="picture", text="caption", epochs=1, validation=0, **SMALL)


def test_an_export_draws_the_same_pictures(store: Path) -> None:
    trained()
    before = maas.predict("stripes", ["the left is bright"] * 3, seed=1)
    loader = current().backend.loader  # type: ignore[attr-defined]
    in_torch = loader.generator("stripes").loop.session
    made = maas.export("stripes")
    assert made.verification.max_abs_diff < 1e-4
    assert [spec.name for spec in made.signature.inputs] == ["caption", "noisy picture", "time of picture"]
    after = maas.predict("stripes", ["the left is bright"] * 3, seed=1)
    assert loader.generator("stripes").loop.session is not in_torch
    assert np.abs(before.array.astype(int) - after.array).max() <= 1


def test_the_lines_of_a_card_draw_what_the_model_draws(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(epochs=4)
    folder = Path(maas.export("stripes").path)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder)
    found: dict[str, Any] = {}
    exec(code.replace('"a text"', '"the left is bright"'), found)
    wanted = maas.predict("stripes", "the left is bright", seed=0)
    assert np.abs(found["pictures"][:, 0].astype(int) - wanted.array).max() <= 1


def test_a_stream_shows_pictures_on_their_way(store: Path) -> None:
    trained()
    request = GenerateRequest(model="stripes", data="the top is bright", params={"seed": 1, "steps": 6, "every": 2})
    chunks = list(current().generate(request))
    assert [chunk.delta.shape for chunk in chunks] == [(8, 8)] * 3
    assert chunks[-1].finish == "stop" and chunks[-1].usage is not None
    last = maas.predict("stripes", "the top is bright", seed=1, steps=6)
    np.testing.assert_array_equal(chunks[-1].delta, last.array[0])


def test_colours_and_files_are_learnt_and_drawn_in_colour(store: Path) -> None:
    random = np.random.default_rng(0)
    files = [as_png(random.integers(0, 256, (10, 9, 3), dtype=np.uint8)) for _ in range(12)]
    table = pd.DataFrame({"photo": files, "caption": ["noise here", "more noise"] * 6})
    made = maas.train(
        "photos", data=table, target="photo", text="caption", task="denoising", epochs=1, params=SMALL["params"]
    )
    assert made.info.architecture == "flow"
    drawn = maas.predict("photos", "noise here")
    assert drawn.array.shape == (1, 10, 9, 3) and drawn[0].mode == "RGB"
    pillow = pd.DataFrame({"photo": [Image.new("L", (8, 8), n) for n in range(6)], "caption": ["a", "b"] * 3})
    maas.train("greys", data=pillow, target="photo", text="caption", epochs=1, **SMALL)


def test_noise_is_the_same_for_the_same_place_wherever_an_epoch_begins() -> None:
    rows = Captioned(torch.ones(20, 3, dtype=torch.int64), torch.zeros(20, 1, 4, 4, dtype=torch.uint8), 0)
    batches = Noised(rows, 8)
    whole = list(batches.epoch(torch.Generator().manual_seed(1)))
    rest = list(batches.epoch(torch.Generator().manual_seed(1), 1))
    assert len(whole) == 3 and len(rest) == 2
    for (inputs, target), (again, same) in zip(whole[1:], rest, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(inputs, again, strict=True)) and torch.equal(target, same)
    other = next(batches.epoch(torch.Generator().manual_seed(2)))
    assert not torch.equal(whole[0][1], other[1])
    first, second = rows.measured(3), rows.measured(3)
    assert all(torch.equal(x, y) for x, y in zip(first[0], second[0], strict=True)) and len(first[1]) >= 1024


def test_velocities_lead_from_noise_to_the_picture() -> None:
    shown = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    rows = Captioned(torch.ones(5, 2, dtype=torch.int64), shown, 0)
    (*_, noisy, time), velocity = rows.noised(torch.arange(5), 0)
    reached = noisy + (1 - time)[:, :, None, None] * velocity.view_as(noisy)
    np.testing.assert_allclose(reached.numpy(), shown.numpy() / 127.5 - 1, atol=1e-5)
    assert (pixels(reached[0].numpy()) == shown[0, 0].numpy()).all()


def test_a_sampler_follows_velocities_to_their_end() -> None:
    sampler = PictureSampler((1, 2, 2), {"steps": 4, "seed": 1})
    wanted = np.array([[[0.5, -0.5], [1.0, -1.0]]], dtype=np.float32)
    choice, start = sampler.choose(BEGUN), None
    for _ in range(4):
        start = choice.value.noisy if start is None else start
        choice = sampler.choose(wanted - start)
    assert choice.finish == "stop"
    np.testing.assert_array_equal(choice.delta, pixels(wanted))


def test_padding_of_captions_changes_nothing_and_words_do() -> None:
    torch.manual_seed(0)
    net = Flow((1, 6, 6), 4, 20, 0, 8, 32, 2, 4).eval()
    torch.nn.init.normal_(net.leave.weight, std=0.3)
    nothing, noisy, time = torch.zeros(1, 0), torch.randn(1, 1, 6, 6), torch.tensor([[0.3]])

    def asked(*ids: int) -> torch.Tensor:
        made: torch.Tensor = net(nothing, nothing.long(), torch.tensor([ids]), noisy, time)
        return made

    with torch.inference_mode():
        torch.testing.assert_close(asked(3, 4), asked(3, 4, 0, 0))
        assert asked(3, 4).shape == (1, 36) and (asked(3, 4) - asked(4, 3)).abs().max() > 1e-4


def test_a_training_that_continues_ends_as_one_that_never_stopped(lab: Lab) -> None:
    def weights(name: str, **options: Any) -> dict[str, torch.Tensor]:
        asked = {"text": "caption", "schedule": "constant", **SMALL, **options}
        lab.train(stripes(), "picture", name=name, **asked)
        return current().load(name).state_dict()

    whole = weights("whole", epochs=4)
    weights("parts", epochs=2)
    parts = weights("parts", epochs=4, resume=True)
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


def test_what_a_network_draws_is_shown_while_it_learns(lab: Lab) -> None:
    job = lab.start(stripes(), "picture", text="caption", **{**SMALL, "epochs": 3})
    job.result()
    shown = [event for event in job.events(follow=False) if isinstance(event, Samples)]
    assert shown[-1].epoch == 3
    assert len(shown[-1].titles) == 4 and all(image.startswith(b"\x89PNG") for image in shown[-1].images)
    assert Image.open(io.BytesIO(shown[-1].images[0])).size == (8, 8)


def test_pictures_are_shown_as_often_as_is_cheap(lab: Lab) -> None:
    lab.train(stripes(), "picture", text="caption", **SMALL)
    name, version = current().backend.models.whole("m")  # type: ignore[attr-defined]
    model = current().backend.loader.model(name, version)  # type: ignore[attr-defined]
    times = iter([0.0, 1.0, 2.5, 2.6, 4.0, 13.0, 13.2, 30.0, 30.1, 30.2])
    made = drawing(model.processor, model.manifest.answers, ["the left is bright"])
    shown = Shown(made, lambda: next(times))
    found = [shown(model.net, epoch, False) is not None for epoch in range(1, 6)]
    assert found == [False, True, False, True, False]  # 0.1 s are a share of ten seconds, and 0.2 s of twenty
    assert shown(model.net, 9, True) is not None


def test_a_model_is_scored_on_other_pictures(store: Path) -> None:
    trained(epochs=20)
    found = maas.evaluate("stripes", stripes(40))
    assert found.rows == 40 and found.values["rmse"] < found.baseline["rmse"]
    assert maas.evaluate("stripes", stripes(40)).values == found.values
    with pytest.raises(DataError, match="8 × 8"):
        maas.evaluate("stripes", stripes(4, side=12))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"text": None, "data": stripes()[["picture"]]}, "No column holds captions"),
        ({"text": "captoin"}, "captoin"),
        ({"text": "picture"}, "captions, which are texts"),
        ({"text": None, "data": stripes().assign(other="a b")}, "several columns of texts"),
        ({"target": "photo"}, "no column 'photo'"),
        ({"target": "caption", "text": "caption"}, "pictures of one size were expected"),
        ({"data": stripes().assign(caption="")}, "is empty"),
        ({"data": stripes(1)}, "no two rows"),
        ({"data": stripes().assign(picture=list(np.zeros((160, 8, 8))))}, "black"),
        ({"data": stripes().assign(picture=list(np.zeros((160, 8, 8, 2))))}, "one or three colours"),
        ({"model": "mlp", "params": {}}, "mlp does not draw pictures"),
        ({"task": "binary"}, "task binary draws no pictures"),
        ({"weights": "caption"}, "--weights"),
        ({"augment": "flip"}, "--augment"),
        ({"workers": 2}, "one process"),
        ({"lr": "auto"}, "new noise"),
        ({"params": {"words": 0}}, "words is 0"),
        ({"params": {"width": 30}}, "width is 30"),
        ({"feature": {"caption": "text"}}, "--feature caption"),
        ({"validation": stripes(20, side=12)}, "held-out pictures"),
        ({"loss": "cross_entropy"}, "cross_entropy"),
    ],
)
def test_what_cannot_be_learnt_is_refused(change: dict[str, Any], why: str, store: Path) -> None:
    with pytest.raises(MaasError, match=why):
        trained(**change)


def test_pictures_of_several_sizes_are_refused_until_one_is_said(store: Path) -> None:
    files = [as_png(np.full((8, 8 + row % 2), 20 * row, dtype=np.uint8)) for row in range(8)]
    table = pd.DataFrame({"picture": files, "caption": ["one", "two"] * 4})
    with pytest.raises(DataError, match=r"differ in size: 8 × 8, 8 × 9") as error:
        trained(data=table)
    assert "image(size=" in error.value.hint
    with pytest.raises(OptionError, match="4 to 512 pixels"):
        trained(data=table, feature={"picture": "image(size=2)"})
    trained(data=table, feature={"picture": "image(size=8)"}, epochs=1)
    assert maas.predict("stripes", "one").array.shape == (1, 8, 8)
    with pytest.raises(DataError, match="row 1"):
        trained(data=pd.DataFrame({"picture": [files[0], None, files[1]], "caption": ["a", "b", "c"]}))


def test_how_a_picture_cannot_be_drawn_is_refused(store: Path) -> None:
    trained(epochs=1)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"steps": 0}, "steps is 0; 1 to 100"),
        ({"steps": 101}, "steps is 101"),
        ({"guidance": -1.0}, "guidance is -1; 0 to 20"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"temperature": 1.0}, "no parameter 'temperature' of a picture"),
        ({"max_tokens": 3}, "neither labels nor tokens"),
        ({"top": 2}, "neither labels nor tokens"),
        ({"column": "nothing"}, "no column 'nothing'"),
    ]
    for asked, why in cases:
        with pytest.raises(MaasError, match=why):
            maas.predict("stripes", "the left is bright", **asked)


def test_a_caption_that_is_too_long_is_refused_and_none_is_drawn(store: Path) -> None:
    trained(epochs=1, params={**SMALL["params"], "words": 6})
    with pytest.raises(DataError, match="more than 6 tokens"):
        maas.predict("stripes", "the left is bright " * 3)
    assert len(maas.predict("stripes", ["", "the left is bright"])) == 2


def test_a_model_of_labels_draws_nothing(store: Path) -> None:
    table = pd.DataFrame({"x": np.arange(40.0), "y": ["p", "q"] * 20})
    maas.train("labels", data=table, target="y", model="linear", epochs=1)
    with pytest.raises(OptionError, match="draws no picture"):
        current().backend.predict(PredictRequest(model="labels", data=table[["x"]], steps=4))
