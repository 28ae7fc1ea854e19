"""Networks that nobody here wrote, small and with random weights: how many train, export, verify, quantise and serve.

Each network of timm learns pictures of 64 × 64 points for one short epoch, each of transformers short texts, from a folder
that is made on the spot. ``--only NAME,…`` takes some; ``--out FILE`` keeps a line for each, and leaves out those it has.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measure import missing, quietly, table

ROWS, SIDE, CLASSES = 48, 64, 3

STEPS = ("trains", "exports", "quantises", "serves")

PICTURES = """\
test_vit test_resnet test_convnext test_efficientnet test_byobnet test_maxvit test_mambaout test_nfnet
resnet18 resnet26 resnext26ts seresnet18 resnetv2_18 densenet121 dla46_c efficientnet_lite0 tinynet_e mobilenetv2_050
mobilenetv3_small_050 mobilenetv4_conv_small lcnet_050 ghostnet_050 mnasnet_small fbnetc_100 hardcorenas_a hgnetv2_b0
inception_next_atto vgg11_bn regnetx_002 regnety_002 regnetz_005 rexnet_100 res2net50_14w_8s resnest14d selecsls42
skresnet18 semnasnet_050 spnasnet_100 tf_efficientnetv2_b0 cs3darknet_s ese_vovnet19b_slim repvgg_a0 repvit_m0_9
mobileone_s0 convnext_atto convnextv2_atto mixer_s32_224 gmlp_ti16_224 resmlp_12_224 vit_tiny_patch16_224
deit_tiny_patch16_224 cait_xxs24_224 swin_tiny_patch4_window7_224 pit_ti_224 levit_128s xcit_nano_12_p16_224
poolformer_s12 edgenext_xx_small efficientformerv2_s0 efficientvit_b0 efficientvit_m0 fastvit_t8 mobilevit_xxs
mobilevitv2_050 pvt_v2_b0 botnet26t_256 ecaresnet26t starnet_s1 tiny_vit_5m_224 gernet_s mambaout_femto shvit_s1
"""
"""Names of timm, one or two of each family."""

SMALL: dict[str, Any] = {
    "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 66, "pad_token_id": 0,
}  # fmt: skip

TEXTS: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "bert": {},
    "big_bird": {"attention_type": "original_full"},
    "camembert": {},
    "convbert": {"embedding_size": 32},
    "data2vec-text": {},
    "deberta": {},
    "deberta-v2": {},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "electra": {"embedding_size": 32},
    "ernie": {},
    "esm": {"position_embedding_type": "absolute"},
    "fnet": {},
    "funnel": {
        "num_hidden_layers": None,
        "d_model": 32,
        "n_head": 2,
        "d_head": 16,
        "d_inner": 64,
        "block_sizes": [1, 1],
        "block_repeats": [1, 1],
    },
    "ibert": {},
    "layoutlm": {},
    "longformer": {"attention_window": 8},
    "megatron-bert": {},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 16},
    "mpnet": {"pad_token_id": 1},
    "mra": {"max_position_embeddings": 64},
    "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 64},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "roberta": {},
    "roformer": {"embedding_size": 32},
    "squeezebert": {"embedding_size": 32},
    "xlm-roberta": {},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "yoso": {"use_expectation": True},
}
"""Kinds of transformers, with what their configuration has besides `SMALL`; None leaves out what that has."""

WORDS = "the a film book cat dog was is good bad dull bright long short old new again never very quite"


def folder_of(kind: str, place: Path) -> str:
    """A hub folder of a kind, its weights random, with a tokenizer of the words."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    given = {name: value for name, value in {**SMALL, **TEXTS[kind]}.items() if value is not None}
    config = transformers.AutoConfig.for_model(kind, **given)
    transformers.AutoModel.from_config(config).save_pretrained(place)
    source = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(["[PAD]", "[UNK]", *WORDS.split()])}, "[UNK]")
    )
    source.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=source, pad_token="[PAD]", unk_token="[UNK]", model_max_length=60
    ).save_pretrained(place)
    return str(place)


def rows_of(name: str) -> tuple[Any, Any]:
    """Rows and their answers."""
    random = np.random.default_rng(0)
    target = np.arange(ROWS) % CLASSES
    if name not in TEXTS:
        return random.normal(size=(ROWS, 3, SIDE, SIDE)).astype(np.float32) + target[:, None, None, None], target
    import pandas as pd

    texts = [" ".join(random.choice(WORDS.split(), size=random.integers(4, 12))) for _ in range(ROWS)]
    return pd.DataFrame({"text": texts}), np.array(["low", "middle", "high"])[target]


def tried(maas: Any, name: str, work: Path) -> dict[str, Any]:
    """How far a network comes, and why no further."""
    rows, target = rows_of(name)
    called = name.replace("-", "_")
    found: dict[str, Any] = {"name": name, "kind": "transformers" if name in TEXTS else "timm"}
    ways = ["int8", "int8-static"] if name in TEXTS else ["int8-static", "int8"]

    def train() -> None:
        base = f"hf:{folder_of(name, work / called)}" if name in TEXTS else f"timm:{name}"
        kinds = {"feature": {"text": "text"}} if name in TEXTS else {}
        maas.train(called, rows, target, model=base, epochs=1, batch_size=16, validation=0.34, **kinds)

    def quantise() -> None:
        for at, way in enumerate(ways):
            try:
                maas.export(called, compress=way, max_drop="99%")
                found["by"] = way
                return
            except Exception:
                if at == len(ways) - 1:
                    raise

    def serve() -> None:
        maas.connect("local")
        try:
            assert len(maas.predict(called, rows[:2])) == 2
        finally:
            maas.connect("kernel")

    steps: dict[str, Callable[[], object]] = {
        "trains": train,
        "exports": lambda: maas.export(called),
        "quantises": quantise,
        "serves": serve,
    }
    for step, run in steps.items():
        begun = perf_counter()
        try:
            quietly(run)
            found[step] = round(perf_counter() - begun, 1)
        except Exception as error:
            found[f"{step} not"] = " ".join(str(error).split())[:300]
            if step == "trains":
                break
    return found


def main(options: Sequence[str] = ()) -> None:
    """Print the counts, and a line for each step that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks architectures")
    parser.add_argument("--only", default="", help="names, with commas")
    parser.add_argument("--out", default="architectures.jsonl", help="file that keeps a line for each network")
    given = parser.parse_args(options)
    if absent := missing("timm", "transformers"):
        print(f"architectures: left out, without {', '.join(absent)}.")
        return
    out = Path(given.out).absolute()
    done = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    names = given.only.split(",") if given.only else [*TEXTS, *PICTURES.split()]
    with tempfile.TemporaryDirectory() as place:
        os.environ["MAAS_STORE"] = place
        import maas_magics as maas

        work = Path(place) / "work"
        for name in names:
            if name in {one["name"] for one in done}:
                continue
            done.append(tried(maas, name, work))
            with out.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            print(json.dumps(done[-1]), flush=True)
            for each in maas.models():
                maas.remove(each.name)
    report([one for one in done if one["name"] in names])


def report(done: Sequence[dict[str, Any]]) -> None:
    """Counts by library, then what failed."""
    kinds = Counter(one["kind"] for one in done)
    rows = [
        [kind, str(count), *(str(sum(step in one for one in done if one["kind"] == kind)) for step in STEPS)]
        for kind, count in kinds.items()
    ]
    table(
        "Networks nobody here wrote", ("networks of", "tried", "train", "export, verified", "quantise", "serve"), rows
    )
    for one in done:
        for step in STEPS:
            if f"{step} not" in one:
                print(f"- {one['name']} {step} not: {one[f'{step} not']}")
