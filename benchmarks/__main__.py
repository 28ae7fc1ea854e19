"""``python -m benchmarks`` runs every benchmark, ``python -m benchmarks NAME …`` some of them."""

from __future__ import annotations

import argparse
import os
from importlib import import_module

from benchmarks.measure import machine

NAMES = (
    "load",
    "first",
    "predict",
    "memory",
    "stream",
    "training",
    "finetune",
    "ladder",
    "pictures",
    "pictures_from_words",
    "sounds",
    "workers",
    "loaders",
    "checkpoints",
    "seeds",
    "view",
    "reload",
    "tables",
    "serving",
    "encoder",
    "remote",
    "soak",
    "chatter",
    "generation",
    "decoding",
    "gpt",
    "compress",
    "architectures",
    "sealed",
    "extraction",
)

GATE = "gate"
"""Only where it is asked for: it needs another checkout."""

OPTIONS = (
    "architectures",
    "chatter",
    "compress",
    "decoding",
    "encoder",
    "finetune",
    "first",
    GATE,
    "generation",
    "gpt",
    "ladder",
    "serving",
    "soak",
    "stream",
    "tables",
)
"""Those that take options."""

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch read it
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; all when left out; {GATE}")
    given, options = parser.parse_known_args()
    chosen = given.names or NAMES
    unknown = [name for name in chosen if name not in (*NAMES, GATE)]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there is: {', '.join((*NAMES, GATE))}")
    if options and not (len(chosen) == 1 and chosen[0] in OPTIONS):
        parser.error(f"options are for one benchmark, of {', '.join(OPTIONS)}: {' '.join(options)}")
    print(machine())
    for name in chosen:
        import_module(f"benchmarks.{name}").main(*([options] if options else []))
