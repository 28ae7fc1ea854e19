"""Masks: pictures of class numbers as the target, a class for each pixel as the answer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

import maas_magics as maas
from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.specs import DataSpec
from maas_magics.core.batches.lazy import EncodedLater
from maas_magics.core.features import pictures
from maas_magics.core.features.augment_pictures import MOVES, varied
from maas_magics.core.features.draw import Draw
from maas_magics.core.tasks import metrics
from maas_magics.core.tasks.fit import fit_task
from maas_magics.core.training.candidates import candidates_of

HEIGHT, WIDTH = 20, 24


def saved(values: Any, kind: str = "PNG", palette: bool = False) -> bytes:
    stream = io.BytesIO()
    found = Image.fromarray(values)
    if palette:
        found = Image.fromarray(values, "P")
        found.putpalette([0, 0, 0, 200, 30, 30, 30, 200, 30, *[0] * 759])
    found.save(stream, kind)
    return stream.getvalue()


def drawn(n: int = 40, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> tuple[list[Any], list[Any]]:
    """Pictures with a red and a green patch, and where they are."""
    rng = np.random.default_rng(seed)
    seen, masks = [], []
    for _ in range(n):
        mask = np.zeros((height, width), np.uint8)
        for label in (1, 2):
            top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
            mask[top : top + 7, left : left + 7] = label
        picture = rng.normal(90, 8, (height, width, 3))
        picture[mask == 1] += [90, 0, 0]
        picture[mask == 2] += [0, 90, 0]
        seen.append(picture.clip(0, 255).astype(np.uint8))
        masks.append(mask)
    return seen, masks


SEEN, MASKS = drawn()
FILES = [saved(one) for one in SEEN]
ASKED: dict[str, Any] = {"epochs": 2, "params": {"channels": [8, 16]}, "batch_size": 8}


def table(masks: list[Any], files: list[Any] = FILES) -> pd.DataFrame:
    return pd.DataFrame({"picture": pd.Series(files, dtype=object), "mask": pd.Series(masks, dtype=object)})


def test_masks_come_in_any_form_and_are_learnt_alike(store: Path, tmp_path: Path) -> None:
    paths = []
    for row, mask in enumerate(MASKS):
        paths.append(str(tmp_path / f"{row}.png"))
        Path(paths[-1]).write_bytes(saved(mask))
    whole = maas.train("bytes", table([saved(mask) for mask in MASKS]), "mask", **ASKED)
    assert (whole.info.task, whole.info.architecture, whole.info.classes) == ("dense", "unet", ("0", "1", "2"))
    for name, masks in {
        "paths": paths,
        "palette": [saved(mask, palette=True) for mask in MASKS],
        "pillow": [Image.fromarray(mask) for mask in MASKS],
        "arrays": MASKS,
        "structs": [{"bytes": saved(mask), "path": None} for mask in MASKS],
        "grey": [saved(np.stack([mask] * 3, 2)) for mask in MASKS],
    }.items():
        assert maas.train(name, table(masks), "mask", **ASKED).history == whole.history, name


def test_a_network_from_scratch_finds_the_patches_and_answers_them_everywhere(store: Path) -> None:
    trained = maas.train("cells", table(MASKS), "mask", epochs=15, batch_size=8, params={"channels": [16, 32]})
    assert trained.metrics["mean_iou"] > 0.6 > 2 * 0.3 - 0.01
    seen, masks = drawn(6, seed=5)
    new = table(masks, [saved(one) for one in seen])
    scored = maas.evaluate("cells", new, "mask")
    assert list(scored.values) == ["mean_iou", "accuracy"]
    found = maas.predict("cells", new[["picture"]])
    assert list(found.columns) == ["prediction"]
    answers = np.stack(found["prediction"].tolist())
    assert answers.shape == (6, HEIGHT, WIDTH) and answers.dtype == np.uint8
    flat, true = answers.reshape(-1), np.stack(masks).reshape(-1)
    assert scored["accuracy"] == pytest.approx((flat == true).mean())
    assert scored["mean_iou"] == pytest.approx(jaccard_score(true, flat, average="macro"))
    sure = np.stack(maas.predict("cells", new[["picture"]], probabilities=True)["probabilities"].tolist())
    assert sure.shape == (6, HEIGHT, WIDTH, 3) and np.array_equal(sure.argmax(-1), answers)
    arrow = maas.predict("cells", pa.table({"picture": new["picture"].tolist()}))
    assert np.array_equal(np.array(arrow.column("prediction").to_pylist()), answers)
    artifact = maas.export("cells")
    assert artifact.verification.max_abs_diff < 1e-4 and "mean_iou" in artifact.verification.metrics_before
    assert np.array_equal(np.stack(maas.predict("cells", new[["picture"]])["prediction"].tolist()), answers)
    shown = maas.show("cells", new)
    image = np.asarray(Image.open(io.BytesIO(shown.examples[0].image)).convert("RGB")).astype(int)
    plain = np.asarray(Image.open(io.BytesIO(new["picture"][0])).convert("RGB")).astype(int)
    apart = np.abs(image - plain).max(2)
    assert image.shape == plain.shape and apart[answers[0] > 0].mean() > 40 > 2 * apart[answers[0] == 0].mean()
    assert shown.examples[0].title.count("%") == len(np.unique(answers[0])) - 1


def test_sizes_that_differ_are_cut_and_scaled_as_the_pictures_are(store: Path) -> None:
    files, masks = [], []
    for number, (height, width) in enumerate([(20, 30), (30, 20), (25, 25)] * 12):
        seen, mask = drawn(1, number, height, width)
        files.append(saved(seen[0]))
        masks.append(mask[0])
    trained = maas.train("mixed", table(masks, files), "mask", feature={"picture": "image(size=32)"}, **ASKED)
    assert trained.info.signature.outputs[0].shape == (-1, 32, 32)
    wide = np.zeros((20, 30), np.uint8)
    wide[:, :5], wide[:, 5:15] = 3, 7  # the middle 20 columns are seen
    found = pictures.mask(saved(np.zeros((20, 30, 3), np.uint8)), saved(wide), 40, 40)
    assert np.array_equal(found, np.repeat([7, 0], 20) * np.ones((40, 1), int))


def test_black_and_white_masks_keep_their_values_and_void_pixels_do_not_count(store: Path) -> None:
    black = [((mask > 0) * 255).astype(np.uint8) for mask in MASKS]
    trained = maas.train("black", table([saved(mask) for mask in black]), "mask", **ASKED)
    assert trained.info.classes == ("0", "255")
    assert set(np.unique(np.stack(maas.predict("black", table(black)[["picture"]])["prediction"].tolist()))) <= {0, 255}
    void = [mask.copy() for mask in MASKS]
    for mask in void:
        mask[:3] = 255
    trained = maas.train("void", table([saved(mask) for mask in void]), "mask", **ASKED)
    assert trained.info.classes == ("0", "1", "2")
    blank = [np.full_like(mask, 255) for mask in void]
    for mask, came in zip(blank, void, strict=True):
        mask[3:5] = came[3:5]
    assert 0 < maas.evaluate("void", table(blank), "mask")["accuracy"] <= 1


def test_masks_are_moved_as_their_pictures_and_the_same_for_any_workers(store: Path) -> None:
    draw = Draw(5, range(8), "picture")
    mask = torch.from_numpy(np.stack(MASKS[:8]))[:, None].float()
    how = {"flip": 0.5, "crop": 0.5, "rotate": 20.0, "color": 0.5, "erase": 0.5}
    moves = {name: how[name] for name in MOVES}
    moved, smooth = varied(mask, moves, draw, nearest=True), varied(mask, moves, draw)
    assert set(moved.unique().tolist()) == {0, 1, 2} and not torch.equal(moved, mask)
    assert ((moved > 0) == (smooth > 0.5)).double().mean() > 0.95
    asked = {**ASKED, "augment": "flip,crop,rotate,color"}
    whole = maas.train("whole", table(MASKS), "mask", **asked)
    assert whole.history != maas.train("plain", table(MASKS), "mask", **ASKED).history
    assert maas.train("shared", table(MASKS), "mask", loader_workers=2, **asked).history == whole.history


def test_what_is_no_mask_is_told_in_two_lines(store: Path) -> None:
    good = [saved(mask) for mask in MASKS]
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
    for bad, said in (
        (saved(np.zeros((5, 6), np.uint8)), "row 7: The mask has 5 × 6 pixels, and its picture 20 × 24"),
        (FILES[0], "row 7: The mask holds colours"),
        (good[0][:40], "row 7: "),
        (saved(noise), "different values, from"),
        ("/nowhere/mask.png", "/nowhere/mask.png"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            maas.train("bad", table([*good[:7], bad, *good[8:]]), "mask", **ASKED)
        assert caught.value.hint
    with pytest.raises(DataError, match="no column holds any"):
        maas.train("bad", pd.DataFrame({"x": np.arange(40.0), "mask": good}), "mask", **ASKED)
    with pytest.raises(OptionError, match="an architecture by name"):
        maas.train("bad", table(good), "mask", model=torch.nn.Conv2d(3, 3, 3, padding=1))
    with pytest.raises(OptionError, match="fusion answers a row"):
        maas.train("bad", table(good), "mask", model="fusion")
    with pytest.raises(OptionError, match="size of the pictures of 'picture' is 'big'"):
        maas.train("bad", table(good), "mask", feature={"picture": "image(size=big)"})
    with pytest.raises(OptionError, match="has no masks"):
        maas.train("bad", table([*"ab"] * 20), "mask", model="unet")
    assert not maas.models()
    maas.train("good", table(good), "mask", **ASKED)
    with pytest.raises(DataError, match="holds 9, a label the model was not trained on"):
        maas.evaluate("good", table([saved(mask * 9) for mask in MASKS]), "mask")
    with pytest.raises(DataError, match="The mask has 5 × 6 pixels"):
        maas.evaluate("good", table([saved(np.zeros((5, 6), np.uint8))] * 40), "mask")


def test_other_columns_are_left_out_and_named(store: Path) -> None:
    job = maas.train("cells", table(MASKS).assign(age=np.arange(40.0)), "mask", background=True, **ASKED)
    job.result()
    said = " ".join(str(getattr(event, "text", "")) for event in job.events())
    assert "left out: 'age'" in said and "Masks are answered at 20 × 24 pixels" in said


def test_arrays_of_pictures_have_masks_too(store: Path) -> None:
    seen, masks = np.stack(SEEN), np.stack(MASKS)
    for x in (seen, seen.transpose(0, 3, 1, 2), seen[..., 0]):
        trained = maas.train("arrays", x, masks, **ASKED)
        assert trained.info.architecture == "unet" and maas.predict("arrays", x).shape == masks.shape
    with pytest.raises(OptionError, match="The masks have the size"):
        maas.train("arrays", seen, masks[:, :10], model="unet", **ASKED)


def test_only_networks_that_answer_pixels_race_for_masks() -> None:
    for data, target in ((table([saved(mask) for mask in MASKS]), "mask"), (np.stack(SEEN), np.stack(MASKS))):
        assert candidates_of(DataSpec(data=data, target=target)) == ("unet",)


def test_mean_iou_in_parts_is_that_of_all() -> None:
    rng = np.random.default_rng(0)
    decoded, target = torch.from_numpy(rng.random((90, 4))), torch.from_numpy(rng.integers(0, 3, 90))
    wanted = jaccard_score(target, decoded.argmax(1), average="macro")
    assert metrics.mean_iou(decoded, target) == pytest.approx(wanted)


def parquet(folder: Path, name: str, masks: list[Any], files: list[Any] = FILES) -> str:
    file = folder / f"{name}.parquet"
    pq.write_table(pa.table({"picture": files, "mask": masks}), file, row_group_size=10)
    return str(file)


def test_masks_stream_as_they_are_learnt_in_memory(store: Path, tmp_path: Path) -> None:
    """To the bit: of files, paths and lists of numbers, augmented, by any number of loader workers."""
    good, paths = [saved(mask) for mask in MASKS], []
    for row, (file, mask) in enumerate(zip(FILES, good, strict=True)):
        paths.append((str(tmp_path / f"{row}.png"), str(tmp_path / f"{row}_mask.png")))
        Path(paths[-1][0]).write_bytes(file)
        Path(paths[-1][1]).write_bytes(mask)
    seen, held = drawn(8, seed=5)
    other = parquet(tmp_path, "held", [saved(mask) for mask in held], [saved(one) for one in seen])
    asked = {**ASKED, "validation": other, "augment": "flip,crop,rotate"}
    whole = maas.train("memory", table(good), "mask", **asked)
    rows = parquet(tmp_path, "rows", good)
    listed = parquet(tmp_path, "lists", [mask.tolist() for mask in MASKS])
    pd.DataFrame(paths, columns=["picture", "mask"]).to_csv(tmp_path / "rows.csv", index=False)
    for name, file, more in (
        ("streamed", rows, {}),
        ("workers", rows, {"loader_workers": 2, "cache": "0"}),
        ("lists", listed, {}),
        ("paths", str(tmp_path / "rows.csv"), {}),
    ):
        trained = maas.train(name, file, "mask", stream=True, **asked, **more)
        assert trained.history == whole.history, name
        assert (trained.info.task, trained.info.architecture, trained.info.classes) == (
            "dense",
            "unet",
            ("0", "1", "2"),
        )
    assert maas.evaluate("streamed", other, "mask").values == maas.evaluate("memory", other, "mask").values
    black = [((mask > 0) * 255).astype(np.uint8) for mask in MASKS]
    trained = maas.train("black", parquet(tmp_path, "black", [*map(saved, black)]), "mask", stream=True, **ASKED)
    assert trained.info.classes == ("0", "255")


def test_streamed_masks_of_other_sizes_are_laid_as_all_pictures_are_seen(store: Path, tmp_path: Path) -> None:
    files, masks = [], []
    for number in range(120):  # those that are looked at first have one size
        seen, mask = drawn(1, number, *((20, 24) if number < 80 else (30, 20)))
        files.append(saved(seen[0]))
        masks.append(saved(mask[0]))
    job = maas.train("cells", parquet(tmp_path, "rows", masks, files), "mask", stream=True, background=True, **ASKED)
    assert job.result().info.signature.outputs[0].shape == (-1, 64, 64)
    said = [str(getattr(event, "text", "")) for event in job.events()]
    assert sum("Masks are answered at 64 × 64 pixels" in text for text in said) == 1


def test_masks_that_cannot_be_read_are_left_out_up_to_a_share(store: Path, tmp_path: Path) -> None:
    good = [saved(mask) for mask in MASKS]
    small = saved(np.zeros((5, 6), np.uint8))
    bad = [*good[:7], good[7][:40], *good[8:20], small, *good[21:]]
    kept = [row for row in range(len(good)) if row not in (7, 20)]
    whole = table([good[row] for row in kept], [FILES[row] for row in kept])
    with pytest.raises(DataError, match="row (7|20): ") as caught:
        maas.train("bad", table(bad), "mask", **ASKED)
    assert "--max-bad 1%" in caught.value.hint
    with pytest.raises(DataError, match="2 of 40 rows .* row 20: The mask has 5 × 6 pixels") as caught:
        maas.train("bad", table(bad), "mask", max_bad="1%", **ASKED)
    assert "--max-bad 5%" in caught.value.hint
    trained = maas.train("kept", table(bad), "mask", max_bad="5%", **ASKED)
    assert trained.history == maas.train("whole", whole, "mask", **ASKED).history
    assert any("2 of 40 rows are left out" in note for note in trained.notes)
    assert maas.evaluate("kept", table(bad), "mask", max_bad="5%").rows == 38
    streamed = maas.train("streamed", parquet(tmp_path, "bad", bad), "mask", stream=True, max_bad="5%", **ASKED)
    rows = parquet(tmp_path, "whole", [good[row] for row in kept], [FILES[row] for row in kept])
    assert streamed.history == maas.train("good", rows, "mask", stream=True, **ASKED).history
    with pytest.raises(DataError, match="row 20: The mask has 5 × 6 pixels"):
        maas.train("bad", parquet(tmp_path, "small", [*good[:20], small, *good[21:]]), "mask", stream=True, **ASKED)


def test_masks_are_encoded_as_they_are_asked_for() -> None:
    values = np.stack(MASKS)
    task = fit_task(values, ("mask",), None, standardise=False, ignored=None)
    later, whole = EncodedLater(task, values), task.encode(values)
    assert len(later) == len(whole) and values.dtype == np.uint8
    assert later[[3, 0, 3]].equal(torch.from_numpy(whole[[3, 0, 3]]))
