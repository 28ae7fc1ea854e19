"""llama.cpp as llama-cpp-python builds it here: ``python of_llama_cpp.py FILE STREAMS TOKENS``, prompts on stdin."""

import ctypes
import json
import sys
import time

import llama_cpp as lib
import numpy as np

file, streams, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lib.llama_backend_init()
quiet = lib.llama_log_callback(lambda *_: None)
lib.llama_log_set(quiet, ctypes.c_void_p(0))
model = lib.llama_model_load_from_file(file.encode(), lib.llama_model_default_params())
settings = lib.llama_context_default_params()
settings.n_ctx, settings.n_batch, settings.n_seq_max = 1_024 * streams, 512, streams
settings.n_threads = settings.n_threads_batch = 1
context = lib.llama_init_from_model(model, settings)
vocabulary = lib.llama_model_get_vocab(model)
size = lib.llama_vocab_n_tokens(vocabulary)
batch = lib.llama_batch_init(512, 0, 1)


def read(given: list[tuple[int, int, int, bool]]) -> None:
    """Read tokens: each with its place, its text, and whether its logits are wanted."""
    batch.n_tokens = len(given)
    for row, (token, place, text, wanted) in enumerate(given):
        batch.token[row], batch.pos[row], batch.n_seq_id[row] = token, place, 1
        batch.seq_id[row][0], batch.logits[row] = text, wanted
    assert lib.llama_decode(context, batch) == 0


def likeliest(row: int) -> int:
    """The next token behind a row of the last batch."""
    logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, row), shape=(size,))
    return int(logits.argmax())


following, places = [], []
for number, text in enumerate(json.load(sys.stdin)[:streams]):
    said = text.encode()
    room = (lib.llama_token * 1_024)()
    count = lib.llama_tokenize(vocabulary, said, len(said), room, 1_024, True, True)
    read([(room[place], place, number, place == count - 1) for place in range(count)])
    following.append(likeliest(count - 1))
    places.append(count)
begun = time.process_time()
for _ in range(tokens):
    read([(following[row], places[row], row, True) for row in range(streams)])
    following = [likeliest(row) for row in range(streams)]
    places = [place + 1 for place in places]
print(streams * tokens / (time.process_time() - begun))
