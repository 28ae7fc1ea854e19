"""Templates of conversations: Jinja as transformers runs it, in a sandbox, and with an end to every loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any

from maas_magics.api.errors import DataError

MOST = 2**20
"""Letters of a text that a template makes."""

PASSES = 500_000
"""Passes of all its loops and macros together."""

SECONDS = 5.0
"""CPU seconds that it may take."""


class _Bound:
    """How much of what a template may take is left."""

    def __init__(self) -> None:
        self.passes = PASSES
        self.until = time.thread_time() + SECONDS

    def take(self) -> None:
        """Take one pass.

        Raises
        ------
        DataError
            If none is left.
        """
        self.passes -= 1
        if self.passes < 0 or time.thread_time() > self.until:
            raise DataError(
                f"The model's template takes more than {PASSES:,} passes or {SECONDS:g} s for this conversation.",
                "Send fewer messages.",
            )


_BOUND: ContextVar[_Bound] = ContextVar("bound")


def take_pass() -> bool:
    """True, once for each pass of a loop or a macro of the template that runs; compiled templates call it."""
    _BOUND.get().take()
    return True


def run(template: str, values: Mapping[str, Any]) -> str:
    """The text that a template makes.

    Parameters
    ----------
    template : str
        Jinja.
    values : mapping
        What it may name.

    Raises
    ------
    DataError
        If it refuses the values, cannot be run, or takes too long.
    """
    token = _BOUND.set(_Bound())
    try:
        return "".join(_parts(_compiled(template).generate(**values)))
    except DataError:
        raise
    except Exception as error:  # a template raises what it likes
        raise DataError(f"The model's template refuses the conversation: {str(error)[:200]}") from None
    finally:
        _BOUND.reset(token)


def _parts(parts: Iterator[str]) -> Iterator[str]:
    size = 0
    for part in parts:
        size += len(part)
        if size > MOST:
            raise DataError(f"The conversation has more than {MOST:,} letters.", "Send fewer messages.")
        yield part


@lru_cache(maxsize=16)
def names_in(template: str) -> frozenset[str]:
    """Names that a template uses.

    Parameters
    ----------
    template : str
        Jinja.
    """
    from jinja2 import TemplateError, nodes

    try:
        return frozenset(found.name for found in _environment().parse(template).find_all(nodes.Name))
    except (TemplateError, RecursionError):
        return frozenset()


@lru_cache(maxsize=16)
def _compiled(template: str) -> Any:
    """A template whose every loop and macro takes a pass from what is left."""
    from jinja2 import nodes

    env = _environment()
    tree = env.parse(template)

    def taken(line: int) -> Any:
        name = nodes.ImportedName(f"{__name__}.{take_pass.__name__}", lineno=line)
        return nodes.Call(name, [], [], None, None, lineno=line)

    for found in list(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock))):
        line = found.lineno
        if isinstance(found, nodes.For) and found.test is not None:  # what it leaves out takes time, too
            found.test = nodes.And(taken(line), found.test, lineno=line)
        else:
            found.body.insert(0, nodes.ExprStmt(taken(line), lineno=line))
    tree.set_environment(env)
    return env.template_class.from_code(env, env.compile(tree), env.make_globals(None))


@lru_cache(maxsize=1)
def _environment() -> Any:
    """The sandbox that transformers renders conversations in: it calls and changes nothing but plain values."""
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}``, which marks what an assistant says for a training."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    class Sandbox(ImmutableSandboxedEnvironment):
        """One whose texts cannot be multiplied beyond what may come of them."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _check_product(operator, left, right)
            return super().call_binop(context, operator, left, right)

    made = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def _check_product(operator: str, left: Any, right: Any) -> None:
    sized = [value for value in (left, right) if hasattr(value, "__len__")]
    if operator == "**":
        fine = all(isinstance(value, (int, float)) and abs(value) <= 1_000 for value in (left, right))
    else:
        times = next((value for value in (left, right) if isinstance(value, int)), 1)
        fine = not sized or len(sized[0]) * times <= MOST
    if not fine:
        raise DataError(f"The model's template makes more than {MOST:,} letters.", "Send fewer messages.")


def _refuse(text: str) -> None:
    raise DataError(f"The model's template refuses the conversation: {text[:200]}")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """A value as JSON, with the letters as they are, as templates of conversations are written for."""
    dump: Callable[..., str] = json.dumps
    return dump(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
