"""A module from the source of the cell that makes it; for services whose owner allows that."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import torch

from maas_magics.api.errors import ModelError

MADE = "_module"


def run_source(text: str) -> Callable[[int, int], Any]:
    """What a cell ends with, as a function of the numbers of inputs and outputs.

    Raises
    ------
    ModelError
        If the text is not Python, or does not end with a value.
    """
    try:
        tree = ast.parse(text)
        match tree.body[-1] if tree.body else None:
            case ast.Expr(value):
                tree.body[-1] = _assign(value)
            case ast.Assign([ast.Name(name), *_]) | ast.AnnAssign(ast.Name(name)):
                tree.body.append(_assign(ast.Name(name, ast.Load())))
            case _:
                raise ModelError("The cell does not end with a network.", "Make its last line the module.")
        code = compile(ast.fix_missing_locations(tree), "<%%train>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise ModelError(f"The cell cannot be read: {error}") from None

    def build(inputs: int, outputs: int) -> Any:
        space: dict[str, Any] = {"torch": torch, "nn": torch.nn, "inputs": inputs, "outputs": outputs}
        try:
            exec(code, space)
        except ImportError as error:
            raise ModelError(
                f"The cell imports what is not there: {error}. Processes beside the notebook look into none of its "
                "folders.",
                "Install the module, or define in the cell what it uses.",
            ) from error
        except Exception as error:
            raise ModelError(
                f"The cell fails on the service: {type(error).__name__}: {error}",
                "It must import and define all that it uses.",
            ) from error
        return space[MADE]

    return build


def _assign(value: ast.expr) -> ast.Assign:
    return ast.Assign([ast.Name(MADE, ast.Store())], value)
