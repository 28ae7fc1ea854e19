"""The magics: each parses a line, asks the session, and returns what came back. No other logic.

Nothing here imports torch, onnxruntime, pandas, pyarrow or matplotlib: loading the extension must cost nothing.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from maas_magics.magics import maas
from maas_magics.magics.completion import make_matcher
from maas_magics.magics.options import HelpAsked
from maas_magics.magics.scope import References, make_return, scope_of
from maas_magics.magics.shell import Magic
from maas_magics.magics.words import uncommented

if TYPE_CHECKING:
    from maas_magics.session import Session

BODIES = ("train", "predict", "maas")
"""Magics that take a cell as well."""


def register(shell: Any, session: Session) -> None:
    """Bring every magic and its completion into a shell."""
    names = (*maas.MAGICS, "maas")
    for name, module in {**maas.MAGICS, "maas": maas}.items():
        function = _function(shell, session, name, module)
        shell.register_magic_function(function, "line_cell" if name in BODIES else "line", name)
    unregister_completion(shell)
    _forget(shell)
    shell.Completer.custom_matchers.append(make_matcher(session, shell))
    shell.ast_transformers.append(References(names))
    shell.input_transformer_manager.token_transformers.append(make_return(names))


def unregister(shell: Any) -> None:
    """Take them out again."""
    for name in (*maas.MAGICS, "maas"):
        for kind in ("line", "cell"):
            shell.magics_manager.magics[kind].pop(name, None)
    unregister_completion(shell)
    _forget(shell)


def unregister_completion(shell: Any) -> None:
    """Take the completion out of a shell."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [matcher for matcher in matchers if getattr(matcher, "matcher_identifier", "") != "maas_magics"]


def _forget(shell: Any) -> None:
    """Take out what reads cells for the sake of magics in functions."""
    for made, ours in (
        (shell.ast_transformers, lambda one: isinstance(one, References)),
        (shell.input_transformer_manager.token_transformers, lambda one: one.__module__ == References.__module__),
    ):
        made[:] = [one for one in made if not ours(one)]


def _function(shell: Any, session: Session, name: str, module: ModuleType) -> Any:
    from IPython.core.magic import no_var_expand

    @no_var_expand
    def function(line: str, cell: str | None = None) -> Any:
        scope = scope_of(shell)
        try:
            value = module.run(Magic(shell, session, scope), line, cell)
        except HelpAsked as asked:
            print(asked)
            return None
        return None if not scope.inside and _silenced(shell, name, line) else value

    function.__name__ = function.__qualname__ = name
    function.__doc__ = maas.overview() if name == "maas" else module.COMMAND.help()
    return function


def _silenced(shell: Any, name: str, line: str) -> bool:
    """Whether a ``;`` ends the line and nothing takes its value.

    IPython's own ``output_can_be_silenced`` takes the value of ``x = %train …;`` away too, and reads the line as
    Python, which fails on a file's name such as ``3.csv`` once the work is done.
    """
    taken = f"= get_ipython().run_line_magic({name!r}, {line!r})"
    return uncommented(line).endswith(";") and taken not in shell.history_manager.input_hist_parsed[-1]
