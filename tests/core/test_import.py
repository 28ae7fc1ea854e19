"""Folders that transformers wrote become models: their answers are those of transformers' own pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_entities import sentences
from test_modalities import png, reviews
from tiny import folder_of

import maas_magics as maas
from maas_magics.api.errors import MaasError, ModelError, NotFound, OptionError
from maas_magics.core.data.media import opening
from maas_magics.core.networks.hub import OFFERED

TEXTS = ["i think that this film was lovely", "dreadful and cold take 3", "a", "so kind " * 60]
KINDS = ["bert", "distilbert", "roberta"]
THREE = {"id2label": {0: "bad", 1: "fair", 2: "good"}, "label2id": {"bad": 0, "fair": 1, "good": 2}}


def pipeline(task: str, folder: Path, **options: Any) -> Any:
    from transformers import pipeline

    return pipeline(task, str(folder), device="cpu", **options)


def scores(folder: Path, texts: list[str], labels: list[str]) -> np.ndarray:
    ask = pipeline("text-classification", folder)
    found = ask(texts, top_k=None, truncation=True)
    return np.array([[{one["label"]: one["score"] for one in row}[label] for label in labels] for row in found])


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_answers_as_its_pipeline_does_and_is_exported(kind: str, tmp_path: Path, store: Path) -> None:
    folder = folder_of(
        tmp_path / kind, reviews()["review"], kind, "AutoModelForSequenceClassification", initializer_range=0.5, **THREE
    )
    info = maas.import_model(str(folder), "mood")
    assert (info.ref, info.task, info.architecture) == ("mood:1", "multiclass", "hf")
    assert info.classes == ("bad", "fair", "good") and info.lineage["base"] == str(folder)
    assert [(spec.name, spec.datatype) for spec in info.signature.inputs] == [("text", "BYTES")]
    wanted = scores(folder, TEXTS, ["bad", "fair", "good"])

    def answered() -> np.ndarray:
        found = maas.predict("mood", {"text": TEXTS})
        assert list(np.asarray(found["prediction"])) == [info.classes[place] for place in wanted.argmax(1)]
        return np.stack([np.asarray(found[f"probability_{label}"]) for label in info.classes], 1)

    np.testing.assert_allclose(answered(), wanted, atol=1e-4)
    assert maas.export("mood").verification.max_abs_diff < 1e-4
    np.testing.assert_allclose(answered(), wanted, atol=1e-4)
    rows = pd.DataFrame({"text": TEXTS, "truth": ["bad", "good", "fair", "bad"]})
    assert maas.evaluate("mood", rows, "truth").values["accuracy"] == pytest.approx(
        (wanted.argmax(1) == [0, 2, 1, 0]).mean()
    )
    (folder / "model.safetensors").unlink()
    assert len(maas.predict("mood:1", {"text": TEXTS})["prediction"]) == 4


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({**THREE, "problem_type": "multi_label_classification"}, "multilabel"),
        ({"num_labels": 1, "problem_type": "regression"}, "regression"),
        ({"num_labels": 1}, "regression"),
        ({}, "multiclass"),
    ],
)
def test_what_is_answered_is_decided_as_the_pipeline_does(
    config: dict[str, Any], task: str, tmp_path: Path, store: Path
) -> None:
    folder = folder_of(
        tmp_path / "bert", reviews()["review"], "bert", "AutoModelForSequenceClassification", initializer_range=0.5,
        **config,
    )  # fmt: skip
    info = maas.import_model(str(folder), "m", column="review")
    assert info.task == task
    labels = list(info.classes) or ["LABEL_0"]
    found = maas.predict("m", {"review": TEXTS})
    columns = [f"probability_{label}" for label in labels] if info.classes else ["prediction"]
    given = np.stack([np.asarray(found[column]) for column in columns], 1)
    np.testing.assert_allclose(given, scores(folder, TEXTS, labels), atol=1e-4)


@pytest.mark.parametrize("labels", [["B-person", "O", "B-place", "I-place"], ["NOUN", "VERB", "PUNCT"]])
def test_tags_of_words_are_those_of_the_pipeline(labels: list[str], tmp_path: Path, store: Path) -> None:
    rows = sentences(12)
    folder = folder_of(
        tmp_path / "bert", [" ".join(words) for words in rows.tokens], "bert", "AutoModelForTokenClassification",
        initializer_range=0.5, id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)},
    )  # fmt: skip
    info = maas.import_model(str(folder), "ner")
    assert info.task == "entities" and info.classes == ("O", *(label for label in labels if label != "O"))
    ask = pipeline("token-classification", folder, ignore_labels=[])
    wanted = []
    for words in rows.tokens:
        text, starts = " ".join(words), np.cumsum([0, *(len(word) + 1 for word in words[:-1])]).tolist()
        tagged = {token["start"]: token["entity"] for token in ask(text)}
        wanted.append([tagged[start] for start in starts])
    if "O" in labels:
        assert maas.export("ner").verification.max_abs_diff < 1e-4
    found = maas.predict("ner", {"tokens": list(rows.tokens)})["prediction"]
    assert [list(tags) for tags in found] == wanted


def test_a_sentence_encoder_makes_the_vectors_that_it_made(tmp_path: Path, store: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = folder_of(tmp_path / "bert", reviews()["review"], initializer_range=0.5)
    modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    modules += [{"type": f"sentence_transformers.models.{part}", "path": f"{i}_{part}"}
                for i, part in enumerate(("Pooling", "Normalize"), 1)]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    net, known = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for place, mode in enumerate(("mean", "cls"), 1):
        pooled = {"pooling_mode_cls_token": mode == "cls", "pooling_mode_mean_tokens": mode == "mean"}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooled))
        info = maas.import_model(str(folder), "near")
        assert (info.task, info.ref) == ("embedding", f"near:{place}")
        found = np.asarray(maas.predict("near", TEXTS))
        for vector, text in zip(found, TEXTS, strict=True):
            with torch.no_grad():
                states = net(**known(text, truncation=True, return_tensors="pt")).last_hidden_state[0]
            wanted = states.mean(0) if mode == "mean" else states[0]
            np.testing.assert_allclose(vector, wanted / wanted.norm(), atol=1e-4)
    assert maas.export("near").verification.max_abs_diff < 1e-4
    table = {"text": list(reviews()["review"])}
    nearest, *_ = maas.search("near", table["text"][7], table, 3)
    assert nearest["score"] == pytest.approx(1.0, abs=1e-3) and nearest["text"] == table["text"][7]
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ModelError, match="pools by pooling_mode_max_tokens"):
        maas.import_model(str(folder), "near")
    modules.insert(1, {"type": "sentence_transformers.models.Dense", "path": "3_Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="has a module 'Dense'"):
        maas.import_model(str(folder), "near")


def test_a_classifier_of_pictures_answers_as_its_pipeline_does(tmp_path: Path, store: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    folder = tmp_path / "vit"
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
        initializer_range=0.5, **THREE,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32},
        "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, "do_rescale": True,
        "rescale_factor": 1 / 255,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    info = maas.import_model(str(folder), "scene")
    assert (info.task, info.signature.inputs[0].name) == ("multiclass", "picture")
    files = [png(32, "RGB", 40 * i, seed=i) for i in range(5)]
    paths = []
    for i, data in enumerate(files):
        (tmp_path / f"{i}.png").write_bytes(data)
        paths.append(tmp_path / f"{i}.png")
    asked = [Image.open(path).convert("RGB") for path in paths]
    wanted = [{one["label"]: one["score"] for one in row} for row in pipeline("image-classification", folder)(asked)]
    assert maas.export("scene").verification.max_abs_diff < 1e-4
    found = maas.predict("scene", pd.DataFrame({"picture": files}))
    for label in info.classes:
        np.testing.assert_allclose(np.asarray(found[f"probability_{label}"]), [row[label] for row in wanted], atol=1e-3)


def test_what_cannot_be_imported_is_told(tmp_path: Path, store: Path) -> None:
    plain = folder_of(tmp_path / "plain", reviews()["review"])
    with pytest.raises(ModelError, match="holds BertModel, which has no head that answers here") as caught:
        maas.import_model(str(plain), "m")
    assert f"--model hf:{plain}" in caught.value.hint and "text-classification" in caught.value.hint
    with pytest.raises(ModelError, match="lacks weights of the head that its configuration names: classifier"):
        maas.import_model(str(plain), "m", kind="text-classification")
    with pytest.raises(NotFound, match="There is no kind of import 'reading'"):
        maas.import_model(str(plain), "m", kind="reading")
    with pytest.raises(MaasError, match="There is no folder"):
        maas.import_model("/nowhere/at/all", "m")
    with pytest.raises(MaasError):
        maas.import_model(str(plain), "a/b")
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ModelError, match="needs code of its own, which is never run"):
        maas.import_model(str(plain), "m", kind="embedding")
    twice = config | {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "a"}}
    (plain / "config.json").write_text(json.dumps(twice))
    with pytest.raises(ModelError, match="The label 'a' stands twice"):
        maas.import_model(str(plain), "m")
    (plain / "config.json").write_text(json.dumps(config))
    with pytest.raises(OptionError, match="Its head gives 2 numbers; 1 are wanted"):
        maas.train("m", reviews(), "label", model=f"hf:{plain}", params={"own_head": True})
    assert not maas.models()


def test_held_out_rows_give_metrics_and_judge_compressions(tmp_path: Path, store: Path) -> None:
    texts = list(reviews()["review"])
    folder = folder_of(
        tmp_path / "bert", texts, "bert", "AutoModelForSequenceClassification", initializer_range=0.5, **THREE
    )
    labels = [["bad", "fair", "good"][place] for place in scores(folder, texts, ["bad", "fair", "good"]).argmax(1)]
    labels[:12] = ["fair"] * 12
    rows = pd.DataFrame({"text": texts, "truth": labels})
    info = maas.import_model(str(folder), "mood", data=rows, target="truth")
    assert info.metrics == {
        name: pytest.approx(value) for name, value in maas.evaluate("mood", rows, "truth").values.items()
    }
    assert maas.export("mood").verification.metrics_after == pytest.approx(info.metrics)
    small = maas.export("mood", compress="int8", max_drop=0.2)
    assert small.verification.rows == len(rows)
    assert len(maas.predict(f"mood@{small.variant}", {"text": TEXTS})["prediction"]) == 4
    with pytest.raises(MaasError, match="'poor', a label the model was not trained on"):
        maas.import_model(str(folder), "mood", data=rows.assign(truth="poor"), target="truth")
    with pytest.raises(OptionError, match="imported without rows"):
        maas.import_model(str(folder), "near", kind="embedding", data=rows, target="truth")
    assert [info.ref for info in maas.models()] == ["mood:1"]


def test_held_out_sentences_give_metrics_of_spans(tmp_path: Path, store: Path) -> None:
    rows, labels = sentences(12), ["O", "B-person", "B-place", "I-place"]
    folder = folder_of(
        tmp_path / "bert", [" ".join(words) for words in rows.tokens], "bert", "AutoModelForTokenClassification",
        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)},
    )  # fmt: skip
    info = maas.import_model(str(folder), "ner", data=rows)
    assert info.metrics == {name: pytest.approx(value) for name, value in maas.evaluate("ner", rows).values.items()}


def test_any_encoder_makes_vectors_where_that_is_requested(tmp_path: Path, store: Path) -> None:
    folder = folder_of(tmp_path / "bert", reviews()["review"])
    assert maas.import_model(str(folder), "near", kind="embedding").task == "embedding"
    assert np.linalg.norm(np.asarray(maas.predict("near", TEXTS)), axis=1) == pytest.approx(np.ones(len(TEXTS)))


def test_weights_in_sixteen_bits_are_read(tmp_path: Path, store: Path) -> None:
    folder = folder_of(
        tmp_path / "bert", reviews()["review"], "bert", "AutoModelForSequenceClassification", initializer_range=0.5
    )
    weights = {name: value.bfloat16() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    maas.import_model(str(folder), "m")
    net = maas.load("m")
    assert {value.dtype for value in net.state_dict().values() if value.is_floating_point()} == {torch.float32}


def test_a_service_imports_what_its_owner_offers(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maas_magics.api.requests import ImportRequest
    from maas_magics.core.dispatch import run
    from maas_magics.core.networks import hub

    folder = folder_of(tmp_path / "bert", reviews()["review"], "bert", "AutoModelForSequenceClassification")
    with opening(False), pytest.raises(ModelError, match="The service opens no pretrained network"):
        hub.open_folder(str(folder))
    context = _context(store, served=True)
    request = ImportRequest(path=str(folder), name="m")
    monkeypatch.delenv(OFFERED, raising=False)
    with pytest.raises(ModelError, match="The service opens no pretrained network"):
        run(request, context)
    monkeypatch.setenv(OFFERED, str(tmp_path))
    assert run(request, context).ref == "m:1"


def _context(store: Path, **options: Any) -> Any:
    from maas_magics.core.context import Context
    from maas_magics.core.inference.loader import Loader
    from maas_magics.core.store.models import Store

    models = Store(str(store))
    return Context(models, Loader(models), lambda event: None, lambda: "", **options)


def test_a_cell_imports_a_folder_and_asks_it(tmp_path: Path, store: Path, ip: Any) -> None:
    folder = folder_of(tmp_path / "bert", reviews()["review"], "bert", "AutoModelForSequenceClassification")
    ip.user_ns["rows"] = reviews().assign(label=lambda rows: np.where(rows.label == 1, "LABEL_1", "LABEL_0"))
    info = ip.run_line_magic("maas", f"import {folder} --as mood --column review --data rows --target label")
    assert info.ref == "mood:1" and "accuracy" in info.metrics
    assert len(ip.run_line_magic("predict", "mood rows")) == len(ip.user_ns["rows"])


def test_import_is_a_word_of_the_line() -> None:
    from maas_magics.magics.maas import SUBCOMMANDS
    from maas_magics.magics.words import Names

    command, _ = SUBCOMMANDS["import"]
    given = command.parse("./a/folder --as mood --column review", Names({}))
    assert given == {"path": "./a/folder", "name": "mood", "column": "review"}
    rows = reviews()
    given = command.parse("./a/folder --as mood --data rows --target label", Names({"rows": rows}))
    assert given["data"][0] is rows and given["target"] == "label"
    with pytest.raises(OptionError, match="--as"):
        command.parse("./a/folder", Names({}))
