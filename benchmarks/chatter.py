"""Clients of a model that writes who come, leave and cancel at random: no slot lost, no answer mixed up, memory flat."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.measure import table

TOKENS = 24

SENTENCES = [
    f"{one} and {two} went up the hill to fetch {pails} pails of water on a {day}."
    for one in ("Jack", "Jill", "Tom", "Ann")
    for two in ("Sue", "Bob", "Kim")
    for pails in range(8)
    for day in ("Monday", "Friday")
]
PROMPTS = [sentence[:length] for sentence in SENTENCES[::13] for length in (4, 19, 37)] + [
    " ".join(SENTENCES[:4])[:length] for length in (200, 230, 260)
]
CHOICES = ["yes, of course", "no, never", "perhaps"]


WRITTEN = 'maas_tokens_total{of="answer"}'
"""The service's count of tokens that were written."""


class Service:
    """A service in a process of its own, with one model that writes.

    Parameters
    ----------
    folder : Path
        Of its store, its token and its log.
    """

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_urlsafe(16)
        file = folder / "token"
        file.write_text(self.token)
        file.chmod(0o600)
        words = ("--store", str(folder / "store"), "--port", "0", "--token-file", str(file), "--kv-memory", "64MB")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "maas_magics.service", *words],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def resident(self) -> float:
        """MiB of memory that it has."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)


async def one_act(client: httpx2.AsyncClient, draw: random.Random, wanted: dict[str, str], told: Counter[str]) -> None:
    """Ask once, in one of the ways in which clients do, and look at the answer."""
    prompt = draw.choice(PROMPTS)
    asked: dict[str, Any] = {"model": "verses", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
    way = draw.choice(("whole", "whole", "read", "left", "cut", "choice", "two", "stop"))
    told[way] += 1
    if way in ("read", "left"):
        left = draw.randrange(1, 8) if way == "left" else 10**9
        text, ended = "", False
        async with client.stream("POST", "/v1/completions", json={**asked, "stream": True}) as answer:
            if answer.status_code != 200:
                told["refused"] += 1
                return
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    ended = True
                elif line.startswith("data: "):
                    text += json.loads(line[6:])["choices"][0]["text"]
                    left -= 1
                    if left < 1:
                        break
        told["mixed"] += not wanted[prompt].startswith(text) or (ended and text != wanted[prompt])
        told["lost"] += way == "read" and not ended
        return
    if way == "choice":
        asked |= {"guided_choice": CHOICES, "temperature": 1.0, "max_tokens": 60}
    asked |= {"n": 2} if way == "two" else {"stop": [" pails"]} if way == "stop" else {}
    try:
        limit = draw.uniform(0.0, 0.5) if way == "cut" else None
        answer = await asyncio.wait_for(client.post("/v1/completions", json=asked), limit)
    except TimeoutError:
        return
    if answer.status_code != 200:
        told["refused"] += 1
        told["broken"] += answer.status_code != 503
        return
    texts = [choice["text"] for choice in answer.json()["choices"]]
    if way == "choice":
        told["mixed"] += texts[0] not in CHOICES
        return
    expected = wanted[prompt].partition(" pails")[0] if way == "stop" else wanted[prompt]
    told["mixed"] += texts != [expected] * (2 if way == "two" else 1)


async def crowd(
    service: Service, wanted: dict[str, str], clients: int, seconds: float
) -> tuple[Counter[str], list[float]]:
    """Many clients for some time; what they did and found, and the service's memory meanwhile."""
    told, memory = Counter[str](), list[float]()
    until = time.monotonic() + seconds
    head = {"authorization": f"Bearer {service.token}"}

    async def comes_and_goes(seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < until:
            async with httpx2.AsyncClient(base_url=service.url, headers=head, timeout=300) as client:
                for _ in range(draw.randrange(1, 6)):
                    await one_act(client, draw, wanted, told)
                    await asyncio.sleep(draw.choice((0, 0, 0.2)))

    async def watch() -> None:
        while time.monotonic() < until:
            await asyncio.sleep(min(5.0, seconds / 10))
            memory.append(service.resident())

    await asyncio.gather(watch(), *(comes_and_goes(seed) for seed in range(clients)))
    return told, memory


def figures(service: Service) -> dict[str, float]:
    """What the service counts."""
    text = httpx2.get(f"{service.url}/metrics", headers={"authorization": f"Bearer {service.token}"}).text
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def main(options: list[str] | None = None) -> None:
    """Print one table; ``--minutes 10 --clients 64``."""
    import pandas as pd
    import torch

    from maas_magics.api.requests import ExportRequest, GenerateRequest, TrainRequest
    from maas_magics.local.backend import LocalBackend

    parser = argparse.ArgumentParser(prog="python -m benchmarks chatter", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--export", action="store_true", help="answered by ONNX Runtime")
    given = parser.parse_args(options or [])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        backend = LocalBackend(f"{name}/store")
        data = pd.DataFrame({"text": SENTENCES})
        backend.submit(
            TrainRequest(name="verses", data=data, task="language", epochs=12, params={"block": 256, "width": 64})
        ).result(900)

        if given.export:
            backend.submit(ExportRequest(model="verses")).result(900)

        def said(prompt: str) -> str:
            chunks = backend.generate(GenerateRequest(model="verses", data=prompt, max_steps=TOKENS))
            return "".join(chunk.delta for chunk in chunks if chunk.delta)

        wanted = {prompt: said(prompt) for prompt in PROMPTS}
        service = Service(Path(name))
        try:
            told, memory = asyncio.run(crowd(service, wanted, given.clients, given.minutes * 60))
            end = time.monotonic() + 30
            while (found := figures(service))["maas_generation_states"] and time.monotonic() < end:
                time.sleep(0.1)
        finally:
            service.stop()
    acts = sum(told[way] for way in ("whole", "read", "left", "cut", "choice", "two", "stop"))
    table(
        "Clients that come, leave and cancel",
        ("requests", "left or cut", "refused", "broken", "lost", "mixed up", "slots in use after", "tokens",
         "MiB after a third", "MiB at the end"),
        [[
            f"{acts:,}", f"{told['left'] + told['cut']:,}", f"{told['refused']:,}", f"{told['broken']:,}",
            f"{told['lost']:,}", f"{told['mixed']:,}",
            f"{found['maas_generation_states'] + found['maas_generation_waiting']:.0f}",
            f"{found[WRITTEN]:,.0f}", f"{memory[len(memory) // 3]:.0f}", f"{memory[-1]:.0f}",
        ]],
        f"{given.clients} clients for {given.minutes:g} minutes; each answer compared with the kernel's own.",
    )  # fmt: skip
