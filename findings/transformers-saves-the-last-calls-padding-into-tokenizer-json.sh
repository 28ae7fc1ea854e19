#!/usr/bin/env bash
# transformers 5.24.0 with tokenizers 0.23.3: a call such as tokenizer(text, padding="max_length", max_length=6,
# truncation=True) leaves its settings in the tokenizer, and save_pretrained writes them into tokenizer.json. Read by
# transformers, that folder neither pads nor cuts; read by the tokenizers library (or any other program in Rust or
# JavaScript that goes by that file), every text has exactly 6 tokens, long ones are cut without a word. Saved before
# such a call, the file has neither. Models of the hub were published like that: all-MiniLM-L6-v2 pads and cuts at 128.
# Seen: 2, 9 tokens by transformers; 2, 9 by tokenizers for the file saved before; 6, 6 for the file saved after.
# Exits 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.24.0 tokenizers==0.23.3
cat >"$work/run.py" <<'PY'
import sys

import tokenizers
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

work = sys.argv[1]
words = ["[PAD]", "[UNK]", "one", "two"]
plain = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
plain.pre_tokenizer = pre_tokenizers.Whitespace()
made = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]")
short, long = "one two", "one two " * 4 + "one"
made.save_pretrained(f"{work}/before")
made(short, padding="max_length", max_length=6, truncation=True)
made.save_pretrained(f"{work}/after")


def by_tokenizers(folder):
    found = Tokenizer.from_file(f"{work}/{folder}/tokenizer.json")
    return [len(found.encode(text).ids) for text in (short, long)]


def by_transformers(folder):
    found = AutoTokenizer.from_pretrained(f"{work}/{folder}")
    return [len(found(text)["input_ids"]) for text in (short, long)]


print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
told = {}
for folder in ("before", "after"):
    told[folder] = by_transformers(folder), by_tokenizers(folder)
    print(f"saved {folder} the call: transformers {told[folder][0]} tokens, tokenizers {told[folder][1]}")
seen = told == {"before": ([2, 9], [2, 9]), "after": ([2, 9], [6, 6])}
sys.exit(0 if seen else "the behaviour has changed")
PY
"$work/venv/bin/python" "$work/run.py" "$work"
