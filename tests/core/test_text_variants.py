"""Exports of what writes, in sizes that fill no block; scored, copied and asked by what knows nothing of this package."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from PIL import Image
from text_networks import PROMPTS, VERSES, begin, folder_of, texts_of

import maas_magics as maas
from maas_magics.api.errors import DataError, ExportError, OptionError
from maas_magics.core.compressors.weight_only import write_with_integers
from maas_magics.core.exporters.text.graph import write_decoder
from maas_magics.core.features.tokens import tokenizer
from maas_magics.core.networks.decoder import Decoder, DecoderConfig
from maas_magics.core.runtimes.text.onnx_engine import OnnxEngine
from maas_magics.core.runtimes.text.torch_engine import TorchEngine


def train(name: str = "verses", **params: Any) -> Any:
    table = pd.DataFrame({"text": VERSES * 2})
    return maas.train(name, data=table, task="language", epochs=4, params={"layers": 1, "width": 48} | params)


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 48, "head": 24, "heads": 2, "groups": 2, "hidden": 100},
        {"width": 32, "head": 8, "heads": 4, "groups": 2, "hidden": 64},
        {"width": 16, "head": 16, "heads": 1, "groups": 1, "hidden": 64},
        {"width": 72, "head": 12, "heads": 3, "groups": 1, "hidden": 50, "tied": False},
        {"width": 80, "head": 80, "heads": 2, "groups": 1, "hidden": 96, "norm": True},
    ],
)
@pytest.mark.parametrize("bits", [8, 4])
def test_integers_of_any_width_say_nearly_what_floats_say(tmp_path: Path, sizes: dict[str, Any], bits: int) -> None:
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(vocabulary=411, layers=1, positions=40, **sizes)).eval()
    begin(decoder, 1)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.mul_(4 if weight.dim() > 1 else 1)
    (tmp_path / "small").mkdir()
    write_decoder(decoder, tmp_path / "model.onnx")
    write_with_integers(tmp_path / "model.onnx", tmp_path / "small" / "model.onnx", bits)
    ids = np.random.default_rng(0).integers(0, 411, 39).tolist()

    def asked(engine: Any) -> Any:
        first = engine.read(5, ids[:30], 0)
        engine.copy(5, 2, 20)
        return np.stack([first, *engine.step([2, 5], [ids[20], ids[30]], [20, 30]), engine.read(5, ids[31:], 31)])

    small = OnnxEngine(tmp_path / "small" / "model.onnx")
    small.allocate(6, 40)
    wanted, found = asked(TorchEngine(decoder, 6, 40)), asked(small)
    apart = np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2))
    assert apart < (0.04 if bits == 8 else 0.3)


def test_four_bits_are_of_those_layers_that_lose_little_by_them(tmp_path: Path) -> None:
    import onnx

    decoder = Decoder(
        DecoderConfig(vocabulary=411, layers=1, positions=40, width=64, head=16, heads=4, groups=2, hidden=96)
    ).eval()
    write_decoder(decoder, tmp_path / "model.onnx")
    write_with_integers(tmp_path / "model.onnx", tmp_path / "small.onnx", 4)
    graph = onnx.load(tmp_path / "small.onnx", load_external_data=False).graph
    bits = {
        node.input[1]: attribute.i for node in graph.node for attribute in node.attribute if attribute.name == "bits"
    }
    fine = {name.removesuffix("_Q8").rpartition(".weight")[0].rpartition(".")[2] for name in bits if bits[name] == 8}
    coarse = {name.removesuffix("_Q4").rpartition(".weight")[0].rpartition(".")[2] for name in bits if bits[name] == 4}
    assert {"qkv", "down", "lm_head"} <= fine and coarse == {"output", "gate", "up"}


def test_what_is_scored_is_the_export_that_is_named(store: Path) -> None:
    train()
    maas.export("verses")
    for name in ("int8", "int4"):
        maas.export("verses", compress=name, max_drop=0.5)
    held = pd.DataFrame({"text": VERSES[::3]})
    found = {ref: maas.evaluate(ref, held) for ref in ("verses", "verses@onnx", "verses@int8", "verses@int4")}
    assert [one.model for one in found.values()] == [f"verses:1{ref.removeprefix('verses')}" for ref in found]
    whole = found["verses"]["perplexity"]
    assert found["verses@onnx"]["perplexity"] == pytest.approx(whole, rel=1e-4)
    assert 1e-5 < abs(found["verses@int8"]["perplexity"] / whole - 1) < 0.05
    assert found["verses@int4"]["perplexity"] != found["verses@int8"]["perplexity"]


def test_a_copy_of_one_file_of_several_is_refused(store: Path, tmp_path: Path) -> None:
    train()
    with pytest.raises(ExportError, match=r"weights of model.onnx stand in model.onnx.data") as told:
        maas.export("verses", out=tmp_path / "verses.onnx")
    assert str(tmp_path / "verses") in told.value.hint and not list(tmp_path.glob("verses*"))
    maas.export("verses", out=tmp_path / "verses")
    assert {"model.onnx", "model.onnx.data", "tokenizer_config.json"} <= {
        p.name for p in (tmp_path / "verses").iterdir()
    }


@pytest.mark.parametrize("variant", ["onnx", "int8"])
@pytest.mark.parametrize("family", ["Qwen3", "GPT2"])
def test_the_lines_of_a_card_write_what_the_model_writes(
    store: Path, tmp_path: Path, family: str, variant: str
) -> None:
    maas.import_model(str(folder_of(family, tmp_path / "folder")), "writer")
    made = maas.export("writer", **({} if variant == "onnx" else {"compress": variant, "max_drop": 0.9}))
    card = Path(made.path, "README.md").read_text()
    assert "the model wrote itself" in card and "held-out" not in card
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    assert "maas" not in code
    for prompt in PROMPTS[:3]:
        given = code.replace('text, most = "Once", 40', f"text, most = {prompt!r}, 20")
        last = (
            "\nimport sys\nassert not any(name.startswith('maas_magics') or name == 'torch' for name in sys.modules)\n"
        )
        done = subprocess.run([sys.executable, "-c", given + last], cwd=made.path, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr
        (wanted,) = texts_of(maas.predict(f"writer@{variant}", [prompt], max_tokens=20))
        assert done.stdout.decode().removesuffix("\n") == wanted


def test_a_card_says_how_others_ask_the_file(store: Path) -> None:
    train()
    for format, line in (("onnx", "held-out texts"), ("gguf", "llama-cli -m model.gguf"), ("safetensors", "AutoTok")):
        assert line in Path(maas.export("verses", format=format).path, "README.md").read_text()


def test_what_onnxruntime_genai_reads_is_said_as_it_takes_it(store: Path, tmp_path: Path) -> None:
    train(width=48, heads=2)  # a head has 24 numbers, in the graph 32
    folder = Path(maas.export("verses").path)
    assert tokenizer((folder / "tokenizer.json").read_text(), 0).encode("Jack").ids[0] == 0  # what begins a text
    assert "give it the id 0 before" in (folder / "README.md").read_text()
    maas.import_model(str(folder_of("GPT2", tmp_path / "folder")), "other")
    told = json.loads(Path(maas.export("other").path, "genai_config.json").read_text())
    assert told["model"]["type"] == "llama"
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    wide = next(each for each in graph.input if each.name == "past_key_values.0.key").type.tensor_type.shape.dim[3]
    assert json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]["head_size"] == wide.dim_value
    logits = next(each for each in graph.output if each.name == "logits").type.tensor_type.shape.dim
    assert logits[1].dim_value == 1  # else it takes memory for logits of the whole prompt, which are not made


def test_compressing_leaves_logging_as_it_was(store: Path) -> None:
    code = (
        "import logging, sys, numpy as np, maas_magics as maas\n"
        "x = np.random.default_rng(0).normal(size=(200, 40)).astype('float32')\n"
        "maas.train('m', x, (x[:, 0] > 0).astype(int), model='mlp', epochs=1)\n"
        "for name in ('int8', 'int4'):\n"
        "    maas.export('m', compress=name, max_drop=0.9)\n"
        "assert not logging.getLogger().handlers and logging.getLogger().level == logging.WARNING\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "INFO" not in done.stderr and "WARNING" not in done.stderr
    assert logging.getLogger("onnxscript").level == logging.NOTSET


@pytest.mark.parametrize(
    ("asked", "said", "hint"),
    [
        ({"top_p": 2}, "top_p is 2", "top_p=0.9"),
        ({"temperature": -1}, "temperature is -1", "temperature=0.7"),
        ({"regex": "[0-9"}, "unclosed character class", "regex="),
        ({"regex": "a{3,1}"}, "the start must be <= the end", "regex="),
    ],
)
def test_what_is_wrong_with_how_it_is_to_write_is_said(
    store: Path, asked: dict[str, Any], said: str, hint: str
) -> None:
    train()
    with pytest.raises(OptionError, match=re.escape(said)) as told:
        maas.predict("verses", ["Jack"], **asked)
    assert hint in told.value.hint


def test_more_memory_is_advised_where_it_would_help(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(block=32)
    with pytest.raises(DataError, match="the model reads 31 at most") as told:
        maas.predict("verses", [" pails" * 40], max_tokens=1)
    assert "kv-memory" not in told.value.hint
    monkeypatch.setenv("MAAS_KV_MEMORY", "5MB")
    train("wide", block=4_000, heads=2)
    with pytest.raises(DataError, match="the model reads 2,047 at most") as told:
        maas.predict("wide", [" pails" * 3_000], max_tokens=1)
    assert "kv-memory" in told.value.hint


def test_what_draws_holds_no_conversation_and_is_scored_by_the_export_that_is_named(store: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [np.full((8, 8, 3), 40 * (i % 5), np.uint8) + rng.integers(0, 9, (8, 8, 3), np.uint8) for i in range(40)]
    rows = {"picture": [Image.fromarray(one) for one in pictures], "caption": [f"shade {i % 5}" for i in range(40)]}
    maas.train("draw", rows, "picture", text="caption", model="flow", epochs=2, params={"width": 32})
    maas.export("draw")
    maas.export("draw", compress="int8", max_drop=0.9)
    found = {ref: maas.evaluate(ref, rows) for ref in ("draw", "draw@onnx", "draw@int8")}
    assert [one.model for one in found.values()] == ["draw:1", "draw:1@onnx", "draw:1@int8"]
    whole = found["draw"]["rmse"]
    assert found["draw@onnx"]["rmse"] == pytest.approx(whole, rel=1e-5)
    assert found["draw@int8"]["rmse"] != whole and found["draw@int8"]["rmse"] == pytest.approx(whole, rel=0.05)
    with pytest.raises(DataError, match="draw writes no texts, and so holds no conversation") as told:
        list(maas.generate("draw", {"messages": [{"role": "user", "content": "Hello"}]}))
    assert "%predict" in told.value.hint
