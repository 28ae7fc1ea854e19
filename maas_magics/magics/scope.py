"""Variables where a magic stands: those of the function around it, then the notebook's."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

SKIPPED = ("IPython", __name__.partition(".")[0])
"""Packages whose frames lie between a magic and the code that it stands in."""

NAME = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Scope:
    """Where a magic stands.

    Attributes
    ----------
    variables : mapping
        What its names mean there.
    locals : frozenset of str
        Names that belong to the function around it; none in the notebook itself.
    inside : bool
        Whether it stands in a function or a class.
    """

    variables: Mapping[str, Any]
    locals: frozenset[str] = frozenset()
    inside: bool = False


def scope_of(shell: Any) -> Scope:
    """Where the magic that is running now stands: in the frame that called IPython."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in SKIPPED:
        frame = frame.f_back
    notebook = {**shell.user_global_ns, **shell.user_ns}
    if frame is None or frame.f_locals is shell.user_ns:
        return Scope(notebook)
    variables = notebook
    if frame.f_globals is not shell.user_global_ns:
        variables = notebook | frame.f_globals
    if frame.f_locals is frame.f_globals:
        return Scope(variables)
    held, code = dict(frame.f_locals), frame.f_code
    names = frozenset((*code.co_varnames, *code.co_cellvars, *code.co_freevars, *held))
    # A name of the function that holds nothing yet is no one else's either.
    unbound = names - held.keys()
    return Scope({k: v for k, v in {**variables, **held}.items() if k not in unbound}, names, inside=True)


class References(ast.NodeTransformer):
    """Makes the names in a magic's line names of the function that the magic stands in.

    The line is a text, in which Python sees no names: without this, what belongs to a function further out would not
    be there when the magic runs.

    Parameters
    ----------
    magics : collection of str
        Their names, to which more may come.
    """

    def __init__(self, magics: Collection[str]) -> None:
        self._magics = magics
        self._depth = 0

    def _function(self, node: Any) -> Any:
        self._depth += 1
        try:
            return self.generic_visit(node)
        finally:
            self._depth -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function  # noqa: N815

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """``get_ipython().run_line_magic(name, line)`` with its names beside it, in a function that is never called."""
        self.generic_visit(node)
        match node:
            case ast.Call(
                func=ast.Attribute(attr="run_line_magic" | "run_cell_magic"),
                args=[ast.Constant(value=str(name)), *lines],
            ) if self._depth and name in self._magics:
                pass
            case _:
                return node
        text = " ".join(line.value for line in lines if isinstance(line, ast.Constant) and isinstance(line.value, str))
        names = sorted({found for found in NAME.findall(text) if _is_name(found)})
        if not names:
            return node
        unused = ast.Lambda(
            args=ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[]),
            body=ast.Tuple([ast.Name(name, ast.Load()) for name in names], ast.Load()),
        )
        both = ast.Tuple([node, unused], ast.Load())
        return ast.fix_missing_locations(
            ast.copy_location(ast.Subscript(both, ast.Constant(0), ast.Load()), node)  # (magic, lambda: names)[0]
        )


def _is_name(word: str) -> bool:
    from keyword import iskeyword

    return word.isidentifier() and not iskeyword(word) and word not in ("super", "__class__")


def make_return(magics: Collection[str]) -> Any:
    """What makes ``return %predict …`` mean what ``answers = %predict …`` and ``return answers`` mean.

    Parameters
    ----------
    magics : collection of str
        Their names, to which more may come.
    """
    from IPython.core.inputtransformer2 import MagicAssign

    class MagicReturn(MagicAssign):  # type: ignore[misc,no-any-unimported,unused-ignore]
        """A token transformer."""

        priority = 11

        @classmethod
        def find(cls, tokens_by_line: Any) -> Any:
            """The first of them."""
            for line in tokens_by_line:
                for word, percent, name in zip(line, line[1:], line[2:], strict=False):
                    if word.string == "return" and percent.string == "%" and name.string in magics:
                        return cls(percent.start)
            return None

    return MagicReturn


DEF = re.compile(r"^(\s*)(?:async\s+)?def\s+\w+\s*\(")
BOUND = re.compile(r"(?:^|;)\s*([\w, ]+?)\s*(?::[^=#]*)?=(?!=)|\b(?:for|as)\s+([\w, ]+)|(\w+)\s*:=")


def local_names(above: str, line: str) -> list[str]:
    """Names of the functions around a line that is being typed: parameters, and what was assigned above it.

    Parameters
    ----------
    above : str
        Text of the cell before the line, which need not be whole Python.
    line : str
        Up to the cursor.
    """
    lines = [*above.split("\n"), line.partition("%")[0]]
    found: list[str] = []
    names: list[str] = []
    inside = _indent(line)
    for place in reversed(range(len(lines))):
        text = lines[place]
        header = DEF.match(text)
        last = place == len(lines) - 1
        if header is not None and (last or len(header[1]) < inside):
            found += [*_parameters(lines[place : place + 20]), *names]
            names, inside = [], len(header[1])
        elif text.strip() and not last:
            inside = min(inside, _indent(text))
            for groups in BOUND.findall(text):
                names += [name for name in NAME.findall(" ".join(groups)) if _is_name(name)]
    return list(dict.fromkeys(found))


def _parameters(lines: list[str]) -> list[str]:
    """Parameters of the function whose definition begins these lines."""
    for end in range(1, len(lines) + 1):
        header = "\n".join(lines[:end]).strip()
        for body in (" pass", "\n pass", ": pass"):
            try:
                function = ast.parse(header.rpartition(":")[0] + ":" + body if body == " pass" else header + body).body[
                    0
                ]
            except (SyntaxError, ValueError):
                continue
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                return [node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)]
    return []


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())
