"""Models that write are exported with their cache, compressed, and read back by what knows nothing of this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from text_networks import FAMILIES, PROMPTS, SOURCE, VERSES, feature, folder_of, network, texts_of, theirs

import maas_magics as maas
from maas_magics.api.errors import ExportError, ModelError, ModelNotFound, ToleranceExceeded
from maas_magics.core.compressors import compressors
from maas_magics.core.exporters.text.graph import write_decoder
from maas_magics.core.features.gguf import cut_of, unpacked
from maas_magics.core.features.tokens import tokenizer
from maas_magics.core.runtimes.text.onnx_engine import OnnxEngine
from maas_magics.core.runtimes.text.session import TextSession
from maas_magics.core.runtimes.text.torch_engine import TorchEngine
from maas_magics.session import current


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_writes_what_transformers_writes(family: str, store: Path, tmp_path: Path) -> None:
    folder = folder_of(family, tmp_path / "folder")
    maas.import_model(str(folder), "writer")
    report = maas.export("writer").verification
    assert report.metrics_after["greedy_agreement"] == 1.0
    assert report.metrics_after["perplexity"] == pytest.approx(report.metrics_before["perplexity"], rel=1e-4)
    wanted = [theirs(folder, one, 30) for one in PROMPTS]
    assert texts_of(maas.predict("writer@onnx", PROMPTS, max_tokens=30)) == wanted
    assert texts_of(maas.predict("writer", PROMPTS, max_tokens=30)) == wanted


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3"])
def test_gguf_goes_out_and_comes_in(family: str, store: Path, tmp_path: Path) -> None:
    folder = folder_of(family, tmp_path / "folder")
    maas.import_model(str(folder), "writer")
    report = maas.export("writer", format="gguf", out=tmp_path / "out.gguf").verification
    assert report.metrics_after["greedy_agreement"] == 1.0
    again = maas.import_model(str(tmp_path / "out.gguf"), "again")
    assert again.lineage["base"] == str(tmp_path / "out.gguf")
    assert texts_of(maas.predict("again", PROMPTS, max_tokens=30)) == [theirs(folder, one, 30) for one in PROMPTS]
    assert "<|im_start|>" in current().backend.loader.generator("again").loop.session.conversation(
        [{"role": "user", "content": "Hi"}]
    )


def test_weights_in_few_bits_as_others_wrote_them_are_read(store: Path, tmp_path: Path) -> None:
    import gguf

    maas.import_model(str(folder_of("Llama", tmp_path / "folder")), "writer")
    maas.export("writer", format="gguf", out=tmp_path / "whole.gguf")
    reader = gguf.GGUFReader(tmp_path / "whole.gguf")
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            kind, inner = field.types[0], field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), kind, inner)
    for tensor in reader.tensors:
        if len(tensor.shape) > 1 and not tensor.shape[0] % 32:
            packed = gguf.quants.quantize(np.array(tensor.data), gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(tensor.name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert (tmp_path / "small.gguf").stat().st_size < (tmp_path / "whole.gguf").stat().st_size / 2
    maas.import_model(str(tmp_path / "small.gguf"), "small")
    found, whole = (current().backend.loader.model(name, 1).net.state_dict() for name in ("small", "writer"))
    for name, values in whole.items():
        torch.testing.assert_close(found[name], values, atol=0.02 * float(values.abs().max()), rtol=0)


def test_what_is_no_gguf_is_refused(store: Path, tmp_path: Path) -> None:
    import gguf

    (tmp_path / "text.gguf").write_text("no numbers")
    with pytest.raises(ModelError, match="is not a GGUF file"):
        maas.import_model(str(tmp_path / "text.gguf"), "a")
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "mamba")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match="holds a mamba"):
        maas.import_model(str(tmp_path / "other.gguf"), "a")
    assert not current().backend.models.list()
    with pytest.raises(ModelError, match="no name for"):
        cut_of(json.dumps({"model": {"type": "BPE", "merges": []}, "pre_tokenizer": {"type": "Whitespace"}}))


def test_a_tokenizer_comes_back_as_it_was(store: Path, tmp_path: Path) -> None:
    maas.import_model(str(folder_of("Llama", tmp_path / "folder")), "writer")
    maas.export("writer", format="gguf", out=tmp_path / "out.gguf")
    made = tokenizer((unpacked(tmp_path / "out.gguf", tmp_path / "again") / "tokenizer.json").read_text(), 0)
    known = tokenizer(SOURCE, 0)
    for text in (*VERSES[:3], "1234 pails,\n\n  ünïts <|im_start|>user\n", ""):
        assert made.encode(text, add_special_tokens=False).ids == known.encode(text, add_special_tokens=False).ids
        assert made.decode(made.encode(text).ids) == known.decode(known.encode(text).ids)


def test_a_trained_language_is_compressed_within_its_budget(store: Path) -> None:
    maas.train("verses", data=pd.DataFrame({"text": VERSES * 4}), task="language", epochs=6, params={"width": 64})
    sizes = {}
    for name in ("onnx", "int8", "int4"):
        asked: dict[str, Any] = {"format": "onnx"} if name == "onnx" else {"compress": name, "max_drop": 0.2}
        made = maas.export("verses", **asked)
        sizes[name] = Path(made.path, "model.onnx.data").stat().st_size
        assert made.verification.metrics_after["greedy_agreement"] > 0.8
    assert sizes["onnx"] > 2.5 * sizes["int8"] > 2.5 * sizes["int4"]
    assert texts_of(maas.predict("verses@int8", ["Jack and Sue went up the"], max_tokens=4)) == texts_of(
        maas.predict("verses", ["Jack and Sue went up the"], max_tokens=4)
    )
    text = "".join(chunk.delta or "" for chunk in maas.generate("verses@int4", "Jack and", max_steps=4))
    assert text == texts_of(maas.predict("verses@int4", ["Jack and"], max_tokens=4))[0]


def test_a_compression_past_its_budget_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    class Rough:
        format = "onnx"

        def compress(self, file: Path, smaller: Path, inputs: Any) -> str:
            model = onnx.load(file)
            for weight in model.graph.initializer:
                if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) > 1:  # any token is as likely then
                    weight.CopyFrom(onnx.numpy_helper.from_array(0 * onnx.numpy_helper.to_array(weight), weight.name))
            onnx.save(model, smaller)
            return ""

    monkeypatch.setitem(compressors._entries, "rough", Rough())
    maas.train("verses", data=pd.DataFrame({"text": VERSES}), task="language", epochs=4, params={"width": 32})
    with pytest.raises(ToleranceExceeded, match="perplexity"):
        maas.export("verses", compress="rough", max_drop="1%")
    with pytest.raises(ModelNotFound, match="no export of that name"):
        maas.predict("verses@rough", ["Jack"])


def test_no_other_format_is_offered(store: Path) -> None:
    maas.train("verses", data=pd.DataFrame({"text": VERSES}), task="language", epochs=1, params={"width": 32})
    with pytest.raises(ExportError, match="writes texts, which no file of the format pt2 does"):
        maas.export("verses", format="pt2")


def test_a_folder_is_what_transformers_loads(store: Path, tmp_path: Path) -> None:
    import transformers

    maas.train("verses", data=pd.DataFrame({"text": VERSES * 4}), task="language", epochs=3, params={"width": 64})
    maas.export("verses", format="safetensors", out=tmp_path / "folder")
    known = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    net = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "folder").eval()
    for prompt in ("Jack and Sue went", "Tom"):
        ids = known(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            made = net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        said = known.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        assert texts_of(maas.predict("verses", [prompt], max_tokens=8)) == [said]
    again = maas.import_model(str(tmp_path / "folder"), "again")
    assert again.parameters == current().backend.models.get("verses").parameters
    assert texts_of(maas.predict("again", ["Tom"], max_tokens=8)) == [said]


def test_the_graph_runs_by_names_that_others_know(tmp_path: Path) -> None:
    net = network(64)
    write_decoder(net.decoder, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    names = [each.name for each in session.get_inputs()]
    assert names[:2] == ["input_ids", "attention_mask"]
    ids = np.array([[5, 9, 300, 7]])
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    feed |= {name: np.zeros((1, 2, 16, 16), np.float32) for name in names if name.startswith("past")}
    found = session.run(["logits"], feed)[0]
    hidden = net.decoder(torch.from_numpy(ids), torch.arange(4)[None])
    np.testing.assert_allclose(found[:, -1], net.decoder.logits(hidden)[:, -1].detach().numpy(), atol=1e-4)


def test_rows_that_are_moved_keep_what_was_read(tmp_path: Path) -> None:
    net = network(64)
    write_decoder(net.decoder, tmp_path / "model.onnx")
    engine = OnnxEngine(tmp_path / "model.onnx")
    engine.allocate(5, 64)
    wanted = TorchEngine(net.decoder, 5, 64)
    random = np.random.default_rng(0)
    read = [0] * 5
    for slot in range(5):
        ids = random.integers(1, 400, 4 + slot).tolist()
        for one in (engine, wanted):
            one.read(slot, ids, 0)
        read[slot] = len(ids)
    for several in ([4], [1, 3], [0, 4], [4, 0, 2], [3], [0, 1, 2, 3, 4], [2, 4]):
        ids = random.integers(1, 400, len(several)).tolist()
        places = [read[slot] for slot in several]
        np.testing.assert_allclose(engine.step(several, ids, places), wanted.step(several, ids, places), atol=1e-4)
        for slot in several:
            read[slot] += 1
    engine.copy(4, 1, 6)
    wanted.copy(4, 1, 6)
    np.testing.assert_allclose(engine.read(1, [3, 4], 6), wanted.read(1, [3, 4], 6), atol=1e-4)
    assert TextSession(feature(64), engine).slots == 5
