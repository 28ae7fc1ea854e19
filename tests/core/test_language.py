"""A language is learnt from texts, and written token by token; a Hugging Face folder writes what transformers writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from text_networks import FAMILIES, PROMPTS, SOURCE, VERSES, feature, folder_of, network, texts_of, theirs
from torch.nn import functional

import maas_magics as maas
from maas_magics.api.errors import DataError, MaasError, ModelError, OptionError
from maas_magics.api.events import Samples
from maas_magics.core.batches.language import END_OF_TEXT
from maas_magics.core.data.prose import Part
from maas_magics.core.exporters.text.graph import write_decoder
from maas_magics.core.features.chat import CHATML, rendered, turns
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.token_blocks import blocks_of
from maas_magics.core.features.tokens import tokenizer
from maas_magics.core.networks import next_token
from maas_magics.core.networks.next_token import Surprise
from maas_magics.core.runtimes.text.onnx_engine import OnnxEngine
from maas_magics.core.runtimes.text.sampler import TextSampler
from maas_magics.core.runtimes.text.session import COMMON, PART, TextSession
from maas_magics.core.runtimes.text.torch_engine import TorchEngine
from maas_magics.session import current

# --- networks of others ---


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_writes_what_transformers_writes(family: str, store: Path, tmp_path: Path) -> None:
    folder = folder_of(family, tmp_path / "folder")
    maas.import_model(str(folder), "writer")
    assert texts_of(maas.predict("writer", PROMPTS, max_tokens=30)) == [theirs(folder, one, 30) for one in PROMPTS]


def test_networks_that_are_not_known_are_refused_in_two_lines(store: Path, tmp_path: Path) -> None:
    folder = folder_of("Llama", tmp_path / "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bloom"}))
    with pytest.raises(ModelError, match="holds a bloom, which does not write here"):
        maas.import_model(str(folder), "writer")
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    (folder / "config.json").write_text(json.dumps({**config, "rope_parameters": scaled}))
    with pytest.raises(ModelError, match="rope_type linear, which is not known here"):
        maas.train("fine", data=VERSES, task="language", model=f"hf:{folder}", epochs=1)
    assert not current().backend.models.list()


@pytest.mark.parametrize("lora", [None, "r=4"])
def test_a_folder_is_fine_tuned_and_then_writes_what_it_was_taught(
    lora: str | None, store: Path, tmp_path: Path
) -> None:
    folder = folder_of("Qwen2", tmp_path / "folder")
    taught = ["Jack and Sue went home."] * 64
    found = maas.train(
        "fine", data=taught, task="language", model=f"hf:{folder}", epochs=30, lora=lora, lr=3e-3, precision="fp32",
        params={"block": 32},
    )  # fmt: skip
    assert found.info.metrics["perplexity"] < 2 and found.info.architecture == "causal"
    assert texts_of(maas.predict("fine", ["Jack and"], max_tokens=12)) == [" Sue went home."]


# --- what a network learns ---


@pytest.mark.parametrize("part", [1, 3, 2**20])
def test_surprise_and_its_slopes_are_those_of_cross_entropy(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_token, "PART", 11 * part)
    monkeypatch.setattr(next_token, "FEWEST", 1)
    torch.manual_seed(0)
    hidden, output = torch.randn(7, 5, requires_grad=True), torch.randn(11, 5, requires_grad=True)
    wanted, weights = torch.randint(0, 11, (7,)), torch.rand(7)
    made: Any = Surprise
    found = made.apply(hidden, output, wanted)
    (found * weights).sum().backward()
    ours = hidden.grad, output.grad
    hidden.grad = output.grad = None
    right = functional.cross_entropy(hidden @ output.T, wanted, reduction="none")
    (right * weights).sum().backward()
    torch.testing.assert_close(found, right)
    for one, other in zip(ours, (hidden.grad, output.grad), strict=True):
        torch.testing.assert_close(one, other)


def test_texts_of_one_block_see_nothing_of_each_other() -> None:
    known, net = feature(), network()
    each = [[Part(text, True)] for text in ("Jack and Sue", "Tom", "pails of water")]
    blocks, sizes = blocks_of(known, each, None)
    assert len(blocks) == 1
    with torch.no_grad():
        together = net(torch.from_numpy(blocks))[torch.from_numpy(sizes) > 0]
        alone = []
        for one in each:
            block, size = blocks_of(known, [one], None)
            alone.append(net(torch.from_numpy(block))[torch.from_numpy(size) > 0])
    torch.testing.assert_close(together, torch.cat(alone))


def test_blocks_hold_every_token_once_with_its_bytes() -> None:
    known = feature(block=16)
    each = [[Part(text, True)] for text in (*VERSES[:9], "é\U0001f600", "")]
    blocks, sizes = blocks_of(known, each, None)
    assert blocks.shape[1:] == (2, 17) and sizes.shape[1:] == (16,)
    ids = [one for parts in each for one in (0, *known.ids([parts[0].text])[0], 0)]
    flat = [*blocks[:, 0, :-1].ravel().tolist()]
    assert flat[: len(ids) - 1] == ids[:-1]
    assert sizes.sum() == sum(len(parts[0].text.encode()) + 1 for parts in each)  # and one for the end of each
    assert (blocks[:, 1, 0] == 0).all()


def test_of_prompts_and_answers_only_answers_are_learnt(store: Path) -> None:
    table = pd.DataFrame({"q": [f"{i}+1=" for i in range(60)], "a": [str(i + 1) for i in range(60)]})
    found = maas.train("sums", data=table, features="q", target="a", task="language", epochs=1)
    assert found.info.target == ("q", "a") and found.info.task == "language" and found.info.iterative
    scored = maas.evaluate("sums", table)
    assert set(scored.values) == {"perplexity", "bits_per_byte"} and scored.rows == 60
    model = current().backend.loader.model("sums", 1)  # type: ignore[attr-defined]
    (known,) = model.processor.features
    _, sizes = blocks_of(known, [[Part("7+1=", False), Part("8", True)]], None)
    assert (sizes > 0).sum() == 2  # the answer, and its end


def test_a_language_is_learnt_and_goes_on_where_a_text_stops(store: Path) -> None:
    found = maas.train("verses", data=pd.DataFrame({"text": VERSES}), task="language", epochs=25, params={"block": 64})
    assert found.info.metrics["perplexity"] < 2 < found.info.baseline["perplexity"]
    assert found.info.metrics["bits_per_byte"] < 0.5
    text = texts_of(maas.predict("verses", ["Tom and Bob went up the"]))[0]
    assert text.startswith(" hill to fetch ") and text.endswith(" pails of water.")
    chunks = list(maas.generate("verses", "Jill and", max_steps=8))
    assert chunks[-1].finish == "length" and chunks[-1].usage is not None and chunks[-1].usage.steps == 8
    stopped = list(maas.generate("verses", "Tom and Bob went up the", max_tokens=40, temperature=0, stop="fetch"))
    assert "".join(chunk.delta or "" for chunk in stopped) == " hill to " and stopped[-1].finish == "stop"
    for wrong in ({"temprature": 0}, {"max_tokens": 3, "max_steps": 3}, {"seed": 1, "params": {"seed": 1}}):
        with pytest.raises(OptionError):
            maas.generate("verses", "Tom", **wrong)


def test_what_a_network_writes_is_shown_while_it_learns(lab: Any) -> None:
    job = lab.start(pd.DataFrame({"t": VERSES * 6}), task="language", model="gpt", epochs=3)
    job.result()
    shown = [event for event in job.events(follow=False) if isinstance(event, Samples)]
    assert shown[-1].epoch == 3 and len(shown[-1].texts) == 3 and any(shown[-1].texts) and not shown[-1].images
    assert all(END_OF_TEXT not in text for text in shown[-1].texts)


def test_files_of_text_are_read_and_some_of_them_held_out(store: Path, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n\n".join(VERSES * 6))
    found = maas.train("book", data=str(tmp_path / "book.txt"), task="language", epochs=3)
    assert found.info.metrics["perplexity"] < found.info.baseline["perplexity"]
    again = maas.train("folder", data=str(tmp_path), task="language", epochs=3)
    assert again.info.metrics == found.info.metrics


def test_conversations_are_learnt_by_their_template(store: Path) -> None:
    told = [
        [{"role": "user", "content": f"After {i}?"}, {"role": "assistant", "content": f"{i + 1}."}] for i in range(40)
    ]
    maas.train("chat", data=pd.DataFrame({"messages": told}), task="language", epochs=1)
    model = current().backend.loader.model("chat", 1)  # type: ignore[attr-defined]
    assert model.processor.features[0].template == CHATML
    asked = maas.generate("chat", {"messages": told[0][:1]}, max_steps=3)
    by_text = maas.generate("chat", rendered(CHATML, told[0][:1], True, {}), max_steps=3)
    assert [chunk.delta for chunk in asked] == [chunk.delta for chunk in by_text]
    answered = maas.predict("chat", pd.DataFrame({"messages": [told[0], told[0][:1]]}), max_tokens=3)
    assert answered["prediction"][0] == answered["prediction"][1]  # what the assistant said is not given away


def test_only_what_the_assistant_says_is_learnt() -> None:
    told = [{"role": role, "content": text} for role, text in (("system", "S"), ("user", "U"), ("assistant", "A"))] * 2
    parts = turns(CHATML, told, {})
    assert "".join(part.text for part in parts) == rendered(CHATML, told, False, {})
    assert [part.text for part in parts if part.learnt] == ["A<|im_end|>\n"] * 2


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], "no messages"),
        ([{"content": "a"}], "no role"),
        ([{"role": "user"}], "not a text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "not a text"),
    ],
)
def test_what_is_no_conversation_is_refused(messages: list[Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        rendered(CHATML, messages, True, {})


def test_a_template_runs_in_a_sandbox_and_its_refusals_are_told() -> None:
    told = [{"role": "user", "content": "a"}]
    with pytest.raises(DataError, match="roles must alternate"):
        rendered("{{ raise_exception('roles must alternate') }}", told, True, {})
    with pytest.raises(DataError, match="refuses the conversation"):
        rendered("{{ messages.append(1) }}", told, True, {})
    with pytest.raises(DataError, match="letters"):
        rendered("{% for i in range(99999) %}{{ messages[0].content * 999 }}{% endfor %}", told, True, {})


TABLE = pd.DataFrame({"q": ["a b", "c d"] * 9, "a": ["x", "y"] * 9, "n": range(18)})


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"data": TABLE}, "several columns of texts"),
        ({"data": TABLE[["n"]]}, "No column holds texts"),
        ({"data": TABLE, "features": "z"}, "no column 'z'"),
        ({"data": TABLE, "features": "n"}, "holds int64"),
        ({"data": TABLE, "features": "q", "model": "tabm"}, "does not write"),
        ({"data": TABLE, "features": "q", "weights": "n"}, "--weights is not for"),
        ({"data": TABLE, "features": "q", "label_smoothing": 0.1}, "smoothing"),
        ({"data": TABLE, "features": "q", "params": {"width": 100}}, "width is 100"),
        ({"data": TABLE, "features": "q", "params": {"vocabulary": 100}}, "vocabulary is 100"),
        ({"data": TABLE, "features": "q", "params": {"block": 1}}, "block is 1"),
        ({"data": pd.DataFrame({"t": ["", None]})}, "empty"),
        ({"data": "nowhere.txt"}, "no file"),
        ({"data": TABLE, "target": "a", "task": None, "model": "gpt"}, "gpt learns a language"),
    ],
)
def test_what_is_no_language_is_refused(given: dict[str, Any], why: str, store: Path) -> None:
    with pytest.raises(MaasError, match=why):
        maas.train("bad", **{"task": "language", "epochs": 1, **given})
    assert not current().backend.models.list()


# --- how it is written ---


def session(slots: int = 4, length: int = 400, file: Path | None = None) -> TextSession:
    """A session in torch, or in ONNX Runtime where a file is given."""
    if file is None:
        return TextSession(feature(length), TorchEngine(network(length).decoder, slots, length))
    write_decoder(network(length).decoder, file)
    engine = OnnxEngine(file)
    engine.allocate(slots, length)
    return TextSession(feature(length), engine)


@pytest.fixture(params=["torch", "onnx"])
def file(request: Any, tmp_path: Path) -> Path | None:
    """Where a session's network is exported to, if it is."""
    return tmp_path / "model.onnx" if request.param == "onnx" else None


def raw(text: str) -> list[Any]:
    return [np.array([[text]], dtype=object)]


def stepped(made: TextSession, prompts: Sequence[str], tokens: int) -> list[Any]:
    """Logits after each of several prompts and some tokens behind it, all stepped together."""
    states = [made.start(raw(prompt)) for prompt in prompts]
    found: list[Any] = [[] for _ in prompts]
    while any(len(one) < tokens for one in found):
        going = [place for place, one in enumerate(found) if len(one) < tokens]
        for place, logits in zip(going, made.step([states[place] for place in going]), strict=True):
            if logits is not None:
                found[place].append(logits)
                states[place].feed(300 + len(found[place]))
    for state in states:
        state.close()
    return [np.stack(each) for each in found]


def test_answers_together_are_those_alone_whatever_was_in_their_slots(file: Path | None) -> None:
    prompts = ["Jack and Sue", "Tom", "Ann " * 90, "Ann " * 80 + "Kim"]
    alone = [stepped(session(), [prompt], 6)[0] for prompt in prompts]
    made = session(file=file)

    def same(found: list[Any], wanted: list[Any]) -> None:
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)

    same(stepped(made, prompts, 6), alone)
    same(stepped(made, prompts[::-1], 6), alone[::-1])
    same([stepped(made, [prompt], 6)[0] for prompt in prompts], alone)


def test_what_two_prompts_have_in_common_is_read_once(file: Path | None) -> None:
    made = session(file=file)
    read: list[int] = []
    whole: Callable[..., Any] = made._engine.read

    def counted(slot: int, ids: Sequence[int], start: int) -> Any:
        read.append(len(ids))
        return whole(slot, ids, start)

    made._engine.read = counted  # type: ignore[method-assign]
    common = "Ann and Kim went up the hill to fetch pails of water. " * 3
    tokens = len(made.feature.prompt(common))
    assert COMMON < tokens < PART
    stepped(made, [common + "Jack"], 2)
    before = sum(read)
    states = [made.start(raw(common + name)) for name in ("Tom and Bob", "Jill and Bob")]
    assert [state.read >= tokens - 1 for state in states] == [True, True]
    assert before >= tokens and len({state.slot for state in states}) == 2


def test_what_lies_in_a_slot_before_it_is_read_counts_nothing() -> None:
    made = session(slots=2)
    wanted = stepped(made, ["Jack and Sue", "Tom"], 4)
    other = session(slots=2)
    for layer in (*other._engine._keys, *other._engine._values):  # type: ignore[attr-defined]
        assert not layer.any()
        layer.fill_(1e4)
    np.testing.assert_allclose(np.stack(stepped(other, ["Jack and Sue", "Tom"], 4)), np.stack(wanted), atol=1e-4)


def test_a_prompt_that_is_too_long_or_none_at_all_is_refused() -> None:
    made = session(length=40)
    with pytest.raises(DataError, match="reads 39 at most"):
        made.start(raw("Ann " * 90))
    bare = TextSession(
        ProseFeature("text", tokenizer=SOURCE, size=400, begin=None, ends=(0,), block=40),
        TorchEngine(network(40).decoder, 1, 40),
    )
    with pytest.raises(DataError, match="empty"):
        bare.start(raw(""))


def sampler(**params: Any) -> TextSampler:
    return TextSampler(feature(), params)


def written(made: TextSampler, ids: Sequence[int]) -> tuple[str, str]:
    """What a sampler hands out of tokens that are certain, and why it ends."""
    said = ""
    for one in ids:
        logits = np.full(400, -50.0, dtype=np.float32)
        logits[one] = 50.0
        choice = made.choose(logits)
        said += choice.delta or ""
        if choice.finish:
            return said, choice.finish
    return said + made.rest(), ""


def test_letters_come_whole_and_an_answer_ends_before_its_stop() -> None:
    known = tokenizer(SOURCE, 0)
    text = "Jack é\U0001f600 went up the hill"
    ids = known.encode(text).ids
    assert written(sampler(), ids) == (text, "")
    for stop, said in (
        (" up", "Jack é\U0001f600 went"),
        (["hill", "the h"], "Jack é\U0001f600 went up "),
        ("zz", text),
    ):
        assert written(sampler(stop=stop), ids)[0] == said
    assert written(sampler(stop="hills"), ids) == (text, "")
    assert written(sampler(), [*ids[:3], 0, *ids[3:]]) == (known.decode(ids[:3]), "stop")
    broken = known.encode("\U0001f600").ids[:1]
    assert written(sampler(), broken) == ("�", "")


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    logits = np.full(400, -60.0)
    logits[300:304] = np.log(shares)

    def drawn(**params: Any) -> list[float]:
        made = sampler(seed=7, **params)
        each = [made._token(logits) - 300 for _ in range(4_000)]
        return [each.count(place) / len(each) for place in range(4)]

    np.testing.assert_allclose(drawn(temperature=1), shares, atol=0.03)
    np.testing.assert_allclose(drawn(temperature=1, top_k=2), [0.625, 0.375, 0, 0], atol=0.03)
    np.testing.assert_allclose(drawn(temperature=1, top_p=0.9), [0.526, 0.316, 0.158, 0], atol=0.03)
    np.testing.assert_allclose(drawn(temperature=0.5), shares**2 / (shares**2).sum(), atol=0.03)
    assert drawn() == [1, 0, 0, 0] == drawn(temperature=2, top_k=1) == drawn(temperature=1, top_p=0)
    assert drawn(temperature=1, logit_bias={"303": 100}) == [0, 0, 0, 1]


def test_a_penalty_keeps_tokens_from_coming_again() -> None:
    logits = np.zeros(400, dtype=np.float32)
    logits[300], logits[301] = 1.0, 0.5
    made = sampler(frequency_penalty=0.3)
    assert [made.choose(logits).value for _ in range(4)] == [300, 300, 301, 300]


def test_answers_keep_to_a_form_whatever_is_likely(store: Path) -> None:
    maas.train("verses", data=VERSES, task="language", epochs=1)
    asked = {"temperature": 1.0, "seed": 1, "max_tokens": 60}
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    for form in (schema, json.dumps(schema)):
        for text in texts_of(maas.predict("verses", ["Jack"] * 4, json=form, **asked)):
            assert isinstance(json.loads(text)["n"], int)
    chosen = texts_of(maas.predict("verses", ["Jack"] * 6, choice=["up", "down the hill"], **asked))
    assert set(chosen) <= {"up", "down the hill"}
    for text in texts_of(maas.predict("verses", ["Jack"] * 4, regex="[A-C]{2}-[0-9]", **asked)):
        assert len(text) == 4 and set(text[:2]) <= set("ABC") and text[2] == "-" and text[3].isdecimal()
    with pytest.raises(OptionError, match="json=… is not a schema"):
        maas.predict("verses", ["Jack"], json="{")


def test_a_form_is_refused_where_the_letters_of_tokens_cannot_be_told() -> None:
    from tokenizers import Tokenizer, decoders, models

    made = Tokenizer(models.WordPiece({"[UNK]": 0, "yes": 1, "##es": 2, "[END]": 3}, unk_token="[UNK]"))
    made.decoder = decoders.WordPiece()
    known = ProseFeature("text", tokenizer=made.to_str(), size=4, begin=None, ends=(3,), block=8)
    with pytest.raises(OptionError, match="No form can be kept with the model's tokenizer"):
        TextSampler(known, {"choice": ["yes"]})
    assert TextSampler(known, {}).choose(np.array([0, 5, 0, 0])).value == 1


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"json": {"type": "no"}}, "json=… is not valid"),
        ({"regex": "("}, "regex=… is not valid"),
        ({"choice": []}, "list of texts"),
        ({"json": True, "choice": ["a"]}, "one form"),
        ({"logprobs": -1}, "logprobs is -1"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"temprature": 1}, "no parameter 'temprature'"),
        ({"stop": ["a"] * 10_000}, "10,000 were given"),
        ({"stop": ""}, "one of none"),
        ({"stop": 3}, "not valid"),
        ({"logit_bias": {"400": 1}}, "below 400"),
        ({"seed": "x"}, "not valid"),
    ],
)
def test_parameters_that_are_not_valid_are_refused(params: dict[str, Any], why: str) -> None:
    with pytest.raises(OptionError, match=why):
        TextSampler(feature(), params)


def test_the_same_seed_writes_the_same_text(store: Path) -> None:
    maas.train("verses", data=VERSES, task="language", epochs=1)
    asked = {"max_tokens": 20, "temperature": 1.0}
    once = texts_of(maas.predict("verses", ["Jack"] * 3, seed=5, **asked))
    assert once == texts_of(maas.predict("verses", ["Jack"] * 3, seed=5, **asked))
    assert len(set(once)) == 3 and once != texts_of(maas.predict("verses", ["Jack"] * 3, seed=6, **asked))
    with pytest.raises(OptionError, match="temperature is -1"):
        maas.predict("verses", ["Jack"], temperature=-1)
    with pytest.raises(DataError, match="No column is 'text'"):
        maas.predict("verses", pd.DataFrame({"a": ["x"], "b": ["y"]}))
    named = maas.predict("verses", pd.DataFrame({"a": ["Jack"], "b": ["y"]}), column="a", max_tokens=4)
    assert list(named["prediction"]) == texts_of(maas.predict("verses", ["Jack"], max_tokens=4))


def test_a_model_of_labels_takes_no_temperature(store: Path) -> None:
    table = pd.DataFrame({"x": np.arange(40.0), "y": ["a", "b"] * 20})
    maas.train("labels", data=table, target="y", model="linear", epochs=1)
    with pytest.raises(OptionError, match="writes no text"):
        maas.predict("labels", table, temperature=0.5)
