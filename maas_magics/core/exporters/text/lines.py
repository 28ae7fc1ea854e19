"""Lines of Python that ask an export which writes, with nothing of this package. Not an exporter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maas_magics.core.features.modalities.prose import ProseFeature

GREEDY = """import numpy as np
import onnxruntime
from tokenizers import Tokenizer

text, most = "Once", 40  # what is continued, and by how many tokens

tokenizer = Tokenizer.from_file("tokenizer.json")
session = onnxruntime.InferenceSession({file!r})
ids = tokenizer.encode(text, add_special_tokens=False).ids
ids = {begin} + ids
pasts = [each for each in session.get_inputs() if each.name.startswith("past_key_values")]
places = min(len(ids) + most, {positions})  # the model reads as many tokens at most
cache = {{each.name: np.zeros((1, each.shape[1], places, each.shape[3]), np.float32) for each in pasts}}
new, written = ids, []
while len(written) < most and len(ids) < places:
    given = {{"input_ids": np.array([new]), "attention_mask": np.ones((1, len(ids)), np.int64)}}
    logits, *presents = session.run(None, given | cache)
    cache = dict(zip(cache, presents))
    token = int(logits[0, -1, :{size}].argmax())
    if token in {ends}:
        break
    ids, new = [*ids, token], [token]
    written.append(token)
print(tokenizer.decode(written))
"""

IN_TRANSFORMERS = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer, net = AutoTokenizer.from_pretrained("."), AutoModelForCausalLM.from_pretrained(".")
made = net.generate(**tokenizer("Once", return_tensors="pt"), max_new_tokens=40, do_sample=False)
print(tokenizer.decode(made[0], skip_special_tokens=True))
"""


def lines_of_text(format: str, file: str, feature: ProseFeature, config: Any) -> str:
    """Lines as Markdown; empty for a format that needs none.

    Parameters
    ----------
    format : str
        Of the export.
    file : str
        Name of the model file.
    feature : ProseFeature
        How tokens become texts.
    config : DecoderConfig
        Sizes of the network.
    """
    made = WRITERS.get(format)
    return "" if made is None else made(file, feature, config)


def _in_onnx(file: str, feature: ProseFeature, config: Any) -> str:
    begin = [] if feature.begin is None else [feature.begin]
    code = GREEDY.format(
        file=file, begin=begin, positions=config.positions, size=feature.size, ends=[int(one) for one in feature.ends]
    )
    told = (
        "The file takes ids of tokens, a mask of those so far, and keys and values of what was read (`past_key_values`)"
        "; it answers logits of the next token, and the keys and values for the next pass. A conversation is put into "
        "the text of a prompt by the template in `tokenizer_config.json`. onnxruntime-genai reads `genai_config.json`"
        + (f"; give it the id {feature.begin} before those of a prompt." if begin else ".")
    )
    return f"{told}\n\n```python\n{code}```"


def _in_llama(file: str, feature: ProseFeature, config: Any) -> str:
    return f'```\nllama-cli -m {file} -no-cnv --temp 0 -n 40 -p "Once"\n```'


def _in_transformers(file: str, feature: ProseFeature, config: Any) -> str:
    return f"```python\n{IN_TRANSFORMERS}```"


WRITERS: dict[str, Callable[[str, ProseFeature, Any], str]] = {
    "onnx": _in_onnx, "gguf": _in_llama, "safetensors": _in_transformers,
}  # fmt: skip
