"""Columns of pictures: what is bad in them, what is made of them in training, and networks for them."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

import maas_magics as maas
from maas_magics.api.errors import DataError, MaasError, OptionError
from maas_magics.api.events import EpochEnd
from maas_magics.core.batches.prepare import FIRST, first_rows_of
from maas_magics.core.features import pictures
from maas_magics.core.features.augment import WAYS
from maas_magics.core.features.augment_pictures import varied
from maas_magics.core.features.declared import declared
from maas_magics.core.features.draw import Draw
from maas_magics.core.features.fitting import FitConfig
from maas_magics.core.features.modalities.image import DECODED
from maas_magics.core.features.profile import TableProfile

N = 60


def picture(value: int, side: int = 16, kind: str = "PNG", seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 40, (side, side, 3), dtype=np.uint8) + np.uint8(value)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind)
    return stream.getvalue()


def scenes(n: int = N) -> pd.DataFrame:
    label = np.arange(n) % 2
    return pd.DataFrame(
        {
            "picture": [picture(30 + 150 * y, seed=i) for i, y in enumerate(label)],
            "label": np.where(label == 1, "day", "night"),
        }
    )


def broken(rows: pd.DataFrame, *places: int) -> pd.DataFrame:
    rows = rows.copy()
    for place in places:
        rows.at[place, "picture"] = rows.at[place, "picture"][: 60 + place]
    return rows


def test_bad_files_are_left_out_up_to_a_share(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = broken(scenes(), 4, 11)
    rows.at[20, "picture"] = "/nowhere/x.png"
    with pytest.raises(DataError) as caught:
        maas.train("scene", rows, "label", epochs=1)
    assert "--max-bad 1%" in caught.value.hint
    with pytest.raises(DataError, match="3 of 60 rows have files that cannot be read.*row 4.*row 11.*x.png") as caught:
        maas.train("scene", rows, "label", epochs=1, max_bad=0.04)
    assert "--max-bad 5%" in caught.value.hint
    trained = maas.train("scene", rows, "label", epochs=6, lr=5e-3, max_bad="5%")
    assert any("3 of 60 rows are left out" in note for note in trained.notes)
    good = rows.drop([4, 11, 20])
    assert maas.train("scene", good, "label", epochs=6, lr=5e-3).history == trained.history
    with pytest.raises(DataError) as caught:
        maas.evaluate("scene", rows)
    assert "--max-bad 1%" in caught.value.hint
    found = maas.evaluate("scene", rows, max_bad="5%")
    assert found.rows == 57 and found.values == maas.evaluate("scene", good).values
    with pytest.raises(DataError) as caught:
        maas.predict("scene", rows)
    assert "--max-bad" not in caught.value.hint  # each row is answered


def test_bad_files_of_rows_that_are_held_out_by_themselves(store: Path, tmp_path: Path) -> None:
    rows, held = scenes(), broken(scenes(20), 3)
    with pytest.raises(DataError, match="cannot be decoded|not a picture"):
        maas.train("scene", rows, "label", validation=held, epochs=1)
    trained = maas.train("scene", rows, "label", validation=held, epochs=2, max_bad="10%")
    assert trained.metrics
    for i, data in enumerate(held.picture):
        (tmp_path / f"{i}.png").write_bytes(data)
    table = tmp_path / "rows.csv"
    held.assign(picture=[str(tmp_path / f"{i}.png") for i in range(20)]).to_csv(table, index=False)
    with pytest.raises(DataError, match="row 3"):
        maas.evaluate("scene", str(table))
    assert maas.evaluate("scene", str(table), max_bad="5%").rows == 19


@pytest.mark.parametrize("share", ["lots", "100%", -0.1, 1])
def test_a_share_that_is_none_is_told(share: Any, store: Path) -> None:
    with pytest.raises(OptionError, match="below 1 was expected"):
        maas.train("scene", scenes(4), "label", max_bad=share)


def draw(seed: int = 3, rows: int = 6) -> Any:
    return Draw(seed, range(rows), "picture")


def test_random_numbers_of_a_row_are_its_own() -> None:
    whole, some = Draw(3, range(100), "a").uniform("crop", 50), Draw(3, [7, 2], "a").uniform("crop", 50)
    assert torch.equal(whole[[7, 2]], some) and abs(float(whole.mean()) - 0.5) < 0.02
    assert abs(float(whole.std()) - 12**-0.5) < 0.01 and float(whole.min()) >= 0 and float(whole.max()) < 1
    for other in (Draw(4, range(100), "a"), Draw(3, range(100), "b"), Draw(3, range(100, 200), "a")):
        assert abs(float(np.corrcoef(whole.flatten(), other.uniform("crop", 50).flatten())[0, 1])) < 0.05


def test_each_way_varies_pictures_within_their_range() -> None:
    x = torch.from_numpy(np.random.default_rng(0).integers(20, 230, (6, 3, 12, 10), dtype=np.uint8))
    flipped = varied(x, {"flip": 1.0}, draw())
    assert torch.equal(flipped, x.flip(3).float())
    for name in pictures.AUGMENTS:
        found = varied(x, {name: WAYS[name]}, draw())
        assert found.shape == x.shape and found.dtype == torch.float32 and not torch.equal(found, x.float()), name
        assert x.min() - 0.01 <= found.min() and found.max() <= x.max() + 0.01
        assert torch.equal(found, varied(x, {name: WAYS[name]}, draw()))
        assert torch.equal(found[[1, 4]], varied(x[[1, 4]], {name: WAYS[name]}, Draw(3, [1, 4], "picture"))), name
    flat = torch.full((6, 1, 8, 8), 7.0)
    everything = varied(flat, {name: WAYS[name] for name in pictures.AUGMENTS}, draw())
    torch.testing.assert_close(everything, flat)


def test_a_turn_moves_no_more_than_its_degrees() -> None:
    x = torch.zeros(6, 1, 41, 81)
    x[:, :, 20, 70] = 1.0  # 30 places to the right of the middle
    found = varied(x, {"rotate": 10.0}, draw())
    for picture in found:
        row, column = divmod(int(picture.argmax()), 81)
        away, angle = np.hypot(row - 20, column - 40), np.degrees(np.arctan2(row - 20, column - 40))
        assert abs(away - 30) < 1.5 and abs(angle) < 11.5


def test_augmented_rows_are_the_same_for_any_workers_and_after_a_pause(store: Path) -> None:
    asked: dict[str, Any] = {"epochs": 3, "augment": "flip,crop,color", "checkpoint_every": "1", "batch_size": 16}
    rows = scenes()
    plain = maas.train("plain", rows, "label", **asked | {"augment": ()})
    whole = maas.train("whole", rows, "label", **asked)
    assert whole.history["loss"] != plain.history["loss"]
    assert maas.train("shared", rows, "label", loader_workers=2, **asked).history == whole.history
    job = maas.train("paused", rows, "label", background=True, **asked)
    for event in job.events():
        if isinstance(event, EpochEnd):
            job.pause()
            break
    while job.info.state not in ("paused", "succeeded"):
        time.sleep(0.01)
    if job.info.state == "paused":
        job.resume()
    assert job.result().history == whole.history
    for name, value in maas.load("whole").state_dict().items():
        assert torch.equal(value, maas.load("paused").state_dict()[name]), name


def test_arrays_of_pictures_are_augmented_in_their_own_order_of_axes(store: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.arange(40) % 2
    for shape in ((12, 12), (12, 12, 3), (3, 12, 12)):
        x = (rng.normal(size=(40, *shape)) + label.reshape(-1, *[1] * len(shape))).astype(np.float32)
        trained = maas.train("array", x, label, epochs=4, augment=("flip", "crop=0.1"))
        assert trained.info.architecture == "cnn" and np.isfinite(trained.history["loss"]).all()
        assert maas.predict("array", x).shape == (40,)
    held = maas.train("array", x, label, validation=(x, label), epochs=1, lr=0.0, augment="flip")
    same = maas.train("array", x, label, validation=(x, label), epochs=1, lr=0.0)
    assert held.info.baseline == same.info.baseline  # held-out rows are not varied


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"augment": "flop"}, "no way 'flop'"),
        ({"augment": "crop=2"}, "'crop=2': a strength above 0"),
        ({"augment": "crop=x"}, "a strength above 0"),
        ({"augment": "gain"}, "No column can be augmented by 'gain'"),
        ({"augment": "flip", "batch_size": "auto"}, "size of batches"),
    ],
)
def test_what_cannot_be_augmented_is_told(options: dict[str, Any], said: str, store: Path) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        maas.train("scene", scenes(8), "label", **options)
    assert caught.value.hint


def test_a_table_is_not_augmented(store: Path) -> None:
    with pytest.raises(OptionError, match="none: no column holds pictures"):
        maas.train("t", pd.DataFrame({"a": range(30), "y": [0, 1] * 15}), "y", augment="flip")


def test_a_residual_network_learns_files_and_arrays(store: Path) -> None:
    rows = scenes()
    rows["price"] = np.random.default_rng(0).normal(size=N)
    trained = maas.train("scene", rows, "label", model="resnet", epochs=20, params={"channels": (16, 32), "blocks": 1})
    assert trained.info.architecture == "resnet" and trained.metrics["accuracy"] > 0.9
    assert maas.export("scene").verification.max_abs_diff < 1e-4
    assert (np.asarray(maas.predict("scene", rows)["prediction"]) == rows.label).mean() > 0.9
    with pytest.raises(OptionError, match="no column holds any"):
        maas.train("scene", rows[["price", "label"]], "label", model="resnet")
    for shape in ((16, 16), (16, 16, 3), (3, 128, 128)):
        x = np.random.default_rng(0).normal(size=(20, *shape)).astype(np.float32)
        asked: dict[str, Any] = {"model": "resnet", "epochs": 1, "params": {"channels": (8, 16), "blocks": 1}}
        assert maas.train("array", x, np.arange(20) % 2, **asked).info.signature.inputs[0].shape == (-1, *shape)


def photograph(height: int = 90, width: int = 130, seed: int = 0, kind: str = "PNG") -> bytes:
    """Something smooth, so that ways of resizing are comparable as they are on photographs."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    stream = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(
        stream, kind, **({"quality": 95} if kind == "JPEG" else {})
    )
    return stream.getvalue()


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A folder as save_pretrained writes it, of a ViT with random weights."""
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder = tmp_path / "vit"
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    torch.manual_seed(0)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_pretrained_folder_of_pictures_is_fine_tuned_and_answers_as_transformers(store: Path, vit: Path) -> None:
    rows = scenes()
    trained = maas.train("scene", rows, "label", model=f"hf:{vit}", epochs=8, lr=1e-3)
    assert trained.info.architecture == "hf" and trained.metrics["accuracy"] > 0.9
    assert maas.export("scene").verification.max_abs_diff < 1e-4
    assert (np.asarray(maas.predict("scene", rows)["prediction"]) == rows.label).mean() > 0.9
    (vit / "model.safetensors").unlink()
    maas.predict("scene:1", rows)


def test_a_trunk_is_frozen_and_thaws_at_an_epoch(store: Path, vit: Path) -> None:
    from safetensors.torch import load_file

    came = load_file(vit / "model.safetensors")["embeddings.patch_embeddings.projection.weight"]
    asked: dict[str, Any] = {"model": f"hf:{vit}", "epochs": 2, "lr": 1e-3, "freeze": "encoders.*"}
    frozen = maas.train("frozen", scenes(), "label", **asked)
    thawed = maas.train("thawed", scenes(), "label", unfreeze={"encoders.*": 2}, **asked)
    assert frozen.history["loss"][0] == thawed.history["loss"][0] and frozen.history != thawed.history
    for name, same in (("frozen", True), ("thawed", False)):
        state = maas.load(name).state_dict()
        found = next(value for key, value in state.items() if key.endswith("patch_embeddings.projection.weight"))
        assert torch.equal(found, came) == same
    with pytest.raises(OptionError, match=r"encoders\.\*@9 never comes"):
        maas.train("late", scenes(), "label", unfreeze={"encoders.*": 9}, **asked)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_what_the_processor_of_transformers_makes_of_it(kind: str, vit: Path) -> None:
    from transformers import AutoModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    from maas_magics.core.features.modalities.image import ImageFeature
    from maas_magics.core.networks.hub import open_folder
    from maas_magics.core.networks.kinds import asked_of, kind_of
    from maas_magics.core.networks.pretrained_images import PretrainedImage, given

    folder = open_folder(str(vit))
    assert kind_of(folder) == "image"
    file = photograph(kind=kind)
    clip = CLIPImageProcessorPil(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
    for processor, asked in (
        (ViTImageProcessorPil.from_pretrained(vit), asked_of(folder, "image")),
        (clip, given(clip.to_dict())),
    ):
        feature = ImageFeature("picture", **asked)
        wanted = processor(Image.open(io.BytesIO(file)), return_tensors="pt")["pixel_values"]
        found = feature.module()(torch.from_numpy(feature.decoded(file).copy())[None])
        assert found.shape == wanted.shape
        # two of 255 steps: a JPEG is decoded at a smaller scale, and a middle is cut out before it is resized
        assert float((found - wanted).abs().max()) * 0.27 * 255 < 2.5
        if processor is not clip:
            model = AutoModel.from_pretrained(vit, add_pooling_layer=False).eval()
            ours = PretrainedImage(folder.config, str(vit)).eval()
            ours.initialise()
            with torch.inference_mode():
                theirs = model(pixel_values=found).last_hidden_state[:, 0]
                torch.testing.assert_close(ours(found), theirs)
                assert float((theirs - model(pixel_values=wanted).last_hidden_state[:, 0]).abs().max()) < 0.05


def test_a_processor_that_is_not_followed_is_told(store: Path, vit: Path) -> None:
    file = vit / "preprocessor_config.json"
    known = json.loads(file.read_text())
    for changed, said in (
        ({"do_resize": False}, "gives pictures no size"),
        ({"size": {"shortest_edge": 32}}, "no one shape"),
        ({"rescale_factor": 1 / 127.5}, "a way of its own"),
    ):
        file.write_text(json.dumps(known | changed))
        with pytest.raises(MaasError, match=said) as caught:
            maas.train("scene", scenes(8), "label", model=f"hf:{vit}")
        assert caught.value.hint
    file.write_text(json.dumps(known))
    with pytest.raises(OptionError, match="looks at pictures; no column"):
        maas.train("t", pd.DataFrame({"a": range(30), "y": [0, 1] * 15}), "y", model=f"hf:{vit}")


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_networks_of_timm_are_trained_from_scratch_and_from_a_file(name: str, store: Path, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    rows = scenes(24)
    asked: dict[str, Any] = {"epochs": 1, "batch_size": 12}
    trained = maas.train("scene", rows, "label", model=f"timm:{name}", **asked)
    assert trained.info.architecture == "timm" and maas.export("scene").verification.max_abs_diff < 1e-4
    x = np.random.default_rng(0).normal(size=(20, 32, 32)).astype(np.float32)
    assert maas.train("array", x, np.arange(20) % 2, model=f"timm:{name}", **asked).info.parameters > 1e6
    made = timm.create_model(name)
    file = tmp_path / "kept.safetensors"
    save_file(made.state_dict(), file)
    frozen = maas.train("scene", rows, "label", model=f"timm:{name}@{file}", lr=0.0, **asked)
    assert frozen.info.architecture == "timm"
    first = next(iter(made.state_dict()))
    assert torch.equal(maas.load("scene").state_dict()[f"encoders.0.inner.{first}"], made.state_dict()[first])
    file.write_bytes(b"no weights")
    with pytest.raises(MaasError, match="holds no weights of"):
        maas.train("scene", rows, "label", model=f"timm:{name}@{file}", **asked)


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("resnet19x", "timm has no network"),
        ("resnet18@/nowhere/x.safetensors", "no file"),
        ("hf-hub:a/b", "no network"),
    ],
)
def test_a_network_that_timm_has_not_is_told(ref: str, said: str, store: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(MaasError, match=said) as caught:
        maas.train("scene", scenes(8), "label", model=f"timm:{ref}")
    assert caught.value.hint


def test_the_worst_mistakes_of_an_evaluation_are_shown(store: Path) -> None:
    rows = scenes()
    maas.train("scene", rows, "label", epochs=8, lr=5e-3)
    wrong = rows.copy()
    wrong.loc[[2, 7], "label"] = ["day", "<night>"[1:-1]]
    found = maas.evaluate("scene", wrong)
    assert {one.row for one in found.worst} == {2, 7} and all(one.right is False for one in found.worst)
    assert {(one.title, one.note.partition(",")[0]) for one in found.worst} == {
        ("night", "is day"),
        ("day", "is night"),
    }
    for one in found.worst:
        assert Image.open(io.BytesIO(one.image)).size == (16, 16)
    html = found._repr_html_()
    assert "worst mistakes" in html and html.count("<img") == 2 and "data:image/jpeg;base64," in html
    assert not maas.evaluate("scene", rows).worst and "<img" not in maas.evaluate("scene", rows)._repr_html_()
    number = maas.train("price", rows.assign(label=np.arange(N) % 2 * 1.5), "label", epochs=1, task="regression")
    assert number.ref and len(maas.evaluate("price", rows.assign(label=np.arange(N) % 2 * 1.5)).worst) == 12


def test_rows_are_shown_with_their_answers(store: Path, tmp_path: Path) -> None:
    rows = scenes()
    maas.train("scene", rows, "label", epochs=2)
    folder = tmp_path / "new"
    folder.mkdir()
    for i, data in enumerate(rows.picture[:3]):
        (folder / f"{i}.png").write_bytes(data)
    for given in (rows, pd.DataFrame({"picture": [str(folder / f"{i}.png") for i in range(3)]}), str(folder)):
        found = maas.show("scene", given)
        assert len(found.examples) == (12 if given is rows else 3)
        assert found.examples[0].title in ("day", "night") and found.examples[0].note.endswith("% sure")
        assert "row 0" in repr(found) and found._repr_html_().count("<img") == len(found.examples)
    x = np.random.default_rng(0).normal(size=(40, 8, 8)).astype(np.float32)
    maas.train("array", x, np.arange(40) % 2, epochs=1)
    assert len(maas.show("array", x).examples) == 12
    maas.train("t", pd.DataFrame({"a": range(30), "y": [0, 1] * 15}), "y", epochs=1)
    with pytest.raises(DataError, match="No column of these rows holds"):
        maas.show("t", pd.DataFrame({"a": range(30)}))


def test_labels_are_escaped_and_pictures_small() -> None:
    from maas_magics.api.gallery import Example, Gallery
    from maas_magics.core.features.thumbnails import of_array, of_picture

    assert (
        "<script>"
        not in Gallery(caption="<script>", examples=(Example(row=0, title="<script>", note="<script>"),))._repr_html_()
    )
    image, audio = of_picture(photograph(900, 1300, kind="JPEG"))
    assert max(Image.open(io.BytesIO(image)).size) == 128 and len(image) < 12_000 and not audio
    shown = of_array(np.arange(64.0).reshape(8, 8))
    assert shown is not None and Image.open(io.BytesIO(shown[0])).size == (64, 64)
    assert of_array(np.zeros(8)) is None and of_array(np.zeros((3, 40))) is None


def test_augmented_rows_are_shown_beside_those_that_they_come_from(store: Path) -> None:
    found = maas.augmented(scenes(), "flip,crop,color", rows=3)
    assert len(found.examples) == 18 and found.columns == 6 and found.examples[6].title == "row 1"
    assert found._repr_html_().count("<img") == 18 and len({one.image for one in found.examples}) > 12
    assert maas.augmented(scenes(), "flip,crop,color", rows=3) == found
    arrays = maas.augmented(np.random.default_rng(0).normal(size=(9, 12, 12, 3)), ["rotate"], rows=2)
    assert len(arrays.examples) == 12
    with pytest.raises(OptionError, match="no way 'flop'"):
        maas.augmented(scenes(), "flop")
    with pytest.raises(DataError, match="No column of these rows holds pictures"):
        maas.augmented(pd.DataFrame({"a": [1, 2]}), "flip")


def test_a_column_with_a_bad_file_at_its_beginning_is_one_of_files(store: Path, tmp_path: Path) -> None:
    rows = scenes()
    rows.at[1, "picture"] = b"no picture at all"
    assert any("1 of 60 row" in note for note in maas.train("scene", rows, "label", epochs=1, max_bad=0.02).notes)
    for i, data in enumerate(rows.picture[:30]):
        (tmp_path / f"{i}.png").write_bytes(data)
    (tmp_path / "2.png").unlink()
    paths = pd.DataFrame({"picture": [str(tmp_path / f"{i}.png") for i in range(30)], "label": rows.label[:30]})
    trained = maas.train("scene", paths, "label", epochs=1, max_bad=0.1)
    assert any("2 of 30 rows" in note and "2.png" in note for note in trained.notes)


def saved(image: Any, kind: str, **how: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
SEEN: dict[str, bytes] = {
    **{f"turned {i}": saved(NOISE, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([i]) + b"\0\0\0\0\0\0") for i in range(1, 9)},
    "clear": saved(NOISE.convert("RGBA"), "PNG"),
    "grey and clear": saved(NOISE.convert("LA"), "PNG"),
    "cmyk": saved(NOISE.convert("CMYK"), "JPEG"),
    "cmyk tiff": saved(NOISE.convert("CMYK"), "TIFF"),
    "palette": saved(NOISE.convert("P"), "PNG"),
    "palette with a clear colour": saved(NOISE.convert("P"), "PNG", transparency=3),
    "colours with a clear one": saved(NOISE, "PNG", transparency=(0, 0, 0)),
    "one bit": saved(NOISE.convert("1"), "PNG"),
    "animated gif": saved(NOISE.convert("P"), "GIF", save_all=True, append_images=[NOISE.convert("P")] * 3),
    "animated webp": saved(NOISE, "WEBP", save_all=True, append_images=[NOISE] * 3),
    "one pixel": saved(NOISE.resize((1, 1)), "PNG"),
    "a line": saved(NOISE.resize((1, 2000)), "PNG"),
    "16 bits": saved(Image.fromarray(np.random.default_rng(0).integers(0, 65_535, (40, 60), dtype=np.uint16)), "PNG"),
    "floats": saved(Image.fromarray(np.random.default_rng(0).random((40, 60)).astype(np.float32)), "TIFF"),
    "progressive": saved(NOISE, "JPEG", progressive=True),
    "something behind": saved(NOISE, "PNG") + b"x" * 1000,
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_odd_pictures_are_seen(name: str) -> None:
    data = SEEN[name]
    assert pictures.is_picture(data[:64])
    height, width, _ = pictures.sides(data)
    assert (height, width) == ((60, 40) if name[-1] in "5678" else (40, 60)) or name in ("one pixel", "a line")
    for channels in (1, 3):
        for how in ({}, {"whole": True}, {"edge": 20, "resample": "bicubic"}):
            found = pictures.decoded(data, 16, 16, channels, **how)
            assert found.shape == (channels, 16, 16) and abs(float(found.mean()) - 127) < 20


def test_a_dark_picture_of_16_bits_is_dark() -> None:
    dark = saved(Image.fromarray(np.full((8, 8), 200, dtype=np.uint16)), "PNG")
    assert pictures.decoded(dark, 8, 8, 1).max() <= 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a picture"),
        (b"<svg/>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
        (saved(NOISE, "JPEG")[:-300], "truncated"),
        (saved(NOISE, "GIF")[:-300], "truncated"),
        (saved(NOISE, "WEBP")[:600], "not a picture"),
        (saved(Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)), "TIFF"), "not numbers"),
        (saved(Image.new("F", (5000, 4000)), "TIFF"), "5,000 × 4,000 pixels; 16,000,000 at most"),
        (saved(Image.new("1", (9000, 9000)), "PNG"), "9,000 × 9,000 pixels; 64,000,000 at most"),
    ],
)
def test_what_is_no_picture_is_told(data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        pictures.decoded(data, 16, 16, 3)
    assert caught.value.hint


@pytest.mark.filterwarnings("ignore")
def test_damaged_pictures_end_in_a_picture_or_an_error_of_ours() -> None:
    rng, seen = np.random.default_rng(0), 0
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        whole = np.frombuffer(saved(NOISE, kind), dtype=np.uint8)
        for _ in range(60):
            data = whole.copy()
            data[rng.integers(0, len(data), rng.integers(1, 12))] = rng.integers(0, 256)
            cut = data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data
            try:
                seen += pictures.decoded(cut.tobytes(), 8, 8, 3).shape == (3, 8, 8)
            except DataError as error:
                assert error.message and error.hint
    assert seen > 60


def test_files_of_a_folder_or_a_pattern_are_answered_by_their_paths(store: Path, tmp_path: Path) -> None:
    rows = scenes(40)
    for place, (data, label) in enumerate(zip(rows["picture"], rows["label"], strict=True)):
        file = tmp_path / "photos" / label / f"{place:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    wanted = maas.train("a", str(tmp_path / "photos"), "label", epochs=2)
    found = maas.train("b", str(tmp_path / "photos" / "*" / "*.png"), "label", epochs=2)
    assert found.history == wanted.history
    maas.train("c", rows.rename(columns={"picture": "photo"}), "label", epochs=2)
    for name in ("a", "c"):  # whose column has another name
        answers = maas.predict(name, str(tmp_path / "photos" / "day" / "*.png"))
        assert list(answers.index) == [str(tmp_path / "photos" / "day" / f"{i:02}.png") for i in range(1, 40, 2)]
        alone = maas.predict(name, str(tmp_path / "photos" / "day" / "03.png"))
        assert list(answers.loc[str(tmp_path / "photos" / "day" / "03.png"), ["prediction"]]) == list(alone)
    assert len(maas.predict("a", str(tmp_path / "photos"))) == 40
    with pytest.raises(DataError, match="holds no file in row 0, but list") as caught:
        maas.predict("c", pd.DataFrame({"photo": [np.zeros((4, 4, 3), np.uint8)]}))
    assert "Image.fromarray" in caught.value.hint


def test_few_pictures_are_decoded_before_the_first_step() -> None:
    files = [saved(Image.new("RGB", (12, 9), (row, 90, 40)), "PNG") for row in range(120)]
    table = pa.table({"picture": files})
    schema = declared(table, {"picture": "image"}, lambda text: None).schema
    profile = TableProfile(schema, FitConfig("ports", True))
    profile.add(table)
    processor = profile.finish(table, lambda text: None, {})
    (seen,) = profile.seen.values()
    assert len(seen) <= DECODED and max(seen) > 100  # from all over the rows
    assert first_rows_of(processor) == FIRST
