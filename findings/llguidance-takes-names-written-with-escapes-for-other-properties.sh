#!/usr/bin/env bash
# llguidance 1.9.1 (tokenizers 0.23.3, jsonschema 4.26.0): an answer that its grammar of a JSON schema accepts from the
# first token to the last may not be valid by that schema. A property's name may be written with an escape, and is then
# taken for that of an additional property: {"n":1,"\u006e":"x"} is accepted where the schema says that "n" is an
# integer, and every reader of JSON finds n = "x". And a name that stands twice counts as two: {"a":1,"a":2} is accepted
# where the schema wants two properties. The plain forms, {"n":1,"n":"x"} and {"a":1}, are refused, as expected.
# `"additionalProperties": false` helps against the first.
# Exits 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet llguidance==1.9.1 tokenizers==0.23.3 jsonschema==4.26.0 numpy==2.4.6
cat >"$work/run.py" <<'PY'
import json
import sys
from importlib.metadata import version

from jsonschema import Draft202012Validator
from llguidance import LLMatcher, LLTokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
of_bytes = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
of_bytes.decoder = decoders.ByteLevel()
of_bytes.add_special_tokens(["<end>"])
tokens = LLTokenizer(of_bytes.to_str(), n_vocab=257, eos_token=256)


def accepted(schema, text):
    """Whether a model that chooses the bytes of a text, and then its end, could have written it."""
    matcher = LLMatcher(tokens, LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    assert not matcher.is_error(), matcher.get_error()
    ids = of_bytes.encode(text).ids
    if matcher.validate_tokens(ids) < len(ids):
        return False
    return matcher.consume_tokens(ids) and matcher.is_accepting()


typed = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
two = {"type": "object", "minProperties": 2}
closed = {**typed, "additionalProperties": False}
escaped = '{"n":1,"\\u006e":"x"}'
found = []
for schema, text in (
    (typed, '{"n":1}'), (typed, '{"n":1,"n":"x"}'), (typed, escaped), (closed, escaped),
    (two, '{"a":1}'), (two, '{"a":1,"a":2}'),
):
    taken, valid = accepted(schema, text), Draft202012Validator(schema).is_valid(json.loads(text))
    found.append((taken, valid))
    print(f"{text:24} accepted: {taken!s:5} read as {json.loads(text)}, valid: {valid}")
print("llguidance", version("llguidance"))
wanted = [(True, True), (False, False), (True, False), (False, False), (False, False), (True, False)]
sys.exit(0 if found == wanted else "the behaviour has changed")
PY
"$work/venv/bin/python" "$work/run.py"
