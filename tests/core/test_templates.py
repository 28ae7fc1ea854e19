"""Templates of conversations: as transformers runs them, and with an end to every loop."""

from __future__ import annotations

import pytest

from maas_magics.api.errors import DataError
from maas_magics.core.features import templates
from maas_magics.core.features.chat import rendered

TALK = [{"role": "user", "content": "a<b é"}]


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n > 0 %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% macro f(n) %}{{ caller() }}{% endmacro %}"
        "{% for a in range(99999) %}{% for b in range(99999) %}{% call f(1) %}{% endcall %}{% endfor %}{% endfor %}",
        "{% set take_pass = 1 %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    ],
)
def test_loops_without_output_end(template: str) -> None:
    with pytest.raises(DataError, match="more than 500,000 passes"):
        rendered(template, TALK, True, {})
    assert rendered("{{ messages[0].content }}", TALK, True, {}) == "a<b é"


def test_slow_passes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "SECONDS", 0.2)
    with pytest.raises(DataError, match=r"or 0\.2 s"):
        rendered("{% for a in range(99999) %}{% set x = range(9999) | list | join %}{% endfor %}", TALK, True, {})


@pytest.mark.parametrize("made", ["'a' * 9999999999", "9999999999 * 'a'", "[1] * 9999999999", "9 ** 9 ** 9"])
def test_what_is_multiplied_stays_small(made: str) -> None:
    with pytest.raises(DataError, match="letters"):
        rendered(f"{{% set x = {made} %}}", TALK, True, {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | tojson }}|{{ messages | tojson(indent=2) }}|{{ 'a' * 3 }}{{ 2 ** 5 }}",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}{% for m in messages if m.role %}{{ loop.index }}{% endfor %}",
        "{% for a in range(4) %}{% if a == 1 %}{% continue %}{% endif %}{{ loop.last }}{% else %}none{% endfor %}",
        "{% for a in [[1, [2]]] recursive %}{% if a is iterable %}({{ loop(a) }}){% else %}{{ a }}{% endif %}{% endfor %}",
        "{% macro f(n) %}{{ n }}{% endmacro %}{{ f(1) }}{% set ns = namespace(x=0) %}"
        "{% for a in range(3) %}{% set ns.x = ns.x + a %}{% endfor %}{{ ns.x }}{{ strftime_now('%Y') }}",
    ],
)
def test_templates_come_to_what_they_come_to_in_transformers(template: str) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    wanted = theirs.apply_chat_template(TALK, chat_template=template, tokenize=False, add_generation_prompt=True)
    assert rendered(template, TALK, True, {}) == wanted
