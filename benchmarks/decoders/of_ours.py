"""Our own engine: ``python of_ours.py FOLDER VARIANT STREAMS TOKENS``, prompts as JSON on the standard input."""

import json
import sys
import time
from pathlib import Path

import numpy as np

from maas_magics.core.runtimes.text import TextRuntime

folder, variant, streams, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
session = TextRuntime().open_variant(Path(folder), False, variant)
states = [session.start([np.array([[text]], object)]) for text in json.load(sys.stdin)[:streams]]
waiting = states
while waiting:
    for state, row in zip(waiting, session.step(waiting), strict=True):
        if row is not None:
            state.feed(int(row.argmax()))
    waiting = [state for state in waiting if state.read < state.size]
begun = time.process_time()
for _ in range(tokens):
    for state, row in zip(states, session.step(states), strict=True):
        state.feed(int(row.argmax()))
print(streams * tokens / (time.process_time() - begun))
