"""onnxruntime-genai: ``python of_genai.py FOLDER STREAMS TOKENS``, prompts as JSON on the standard input."""

import json
import sys
import time

import onnxruntime_genai as og

folder, streams, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = og.Config(folder)
model = og.Model(config)
ids = og.Tokenizer(model).encode_batch(json.load(sys.stdin)[:streams])
params = og.GeneratorParams(model)
length = ids.shape()[1] + tokens + 1
params.set_search_options(batch_size=streams, do_sample=False, max_length=length, min_length=length)
generator = og.Generator(model, params)
generator.append_tokens(ids)
generator.generate_next_token()
begun = time.process_time()
for _ in range(tokens):
    generator.generate_next_token()
print(streams * tokens / (time.process_time() - begun))
