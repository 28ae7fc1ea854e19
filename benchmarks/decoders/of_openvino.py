"""openvino-genai: ``python of_openvino.py FILE STREAMS TOKENS``, prompts as JSON on the standard input."""

import json
import sys
import time

import openvino_genai

file, streams, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
texts = json.load(sys.stdin)[:streams]
pipe = openvino_genai.LLMPipeline(file, "CPU", INFERENCE_NUM_THREADS=1)


def cpu(more: int) -> float:
    """CPU seconds of answers of some tokens."""
    begun = time.process_time()
    pipe.generate(texts, max_new_tokens=more, min_new_tokens=more, do_sample=False, ignore_eos=True)
    return time.process_time() - begun


cpu(2)
first = min(cpu(1) for _ in range(3))
print(streams * tokens / (cpu(tokens + 1) - first))
