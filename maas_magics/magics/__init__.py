"""The magics: each parses a line, calls the session, and returns what came back. No other logic.

Nothing here imports torch, onnxruntime, pandas, pyarrow or matplotlib: loading the extension must cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from maas_magics.magics.scope import References, make_return, scope_of

if TYPE_CHECKING:
    from maas_magics.session import Session

NAMES = ("train", "evaluate", "export", "predict", "chat", "serve", "connect", "maas")
"""The magics of this package; verbs of other packages are magics as well."""

BODIES = ("train", "predict", "chat", "maas")
"""Those that take a cell as well."""


class LazyMagic:
    """A magic that is imported when it is first used, completed or asked for help.

    Parameters
    ----------
    shell : InteractiveShell
    session : callable
        Gets the session that it speaks through, which is made on first use.
    name : str
    """

    _ipython_magic_no_var_expand = True
    """Braces and dollars of a line are its own, as under IPython's `no_var_expand`."""

    def __init__(self, shell: Any, session: Callable[[], Session], name: str) -> None:
        self._shell, self._session, self._name = shell, session, name
        self.__name__ = self.__qualname__ = name

    def __call__(self, line: str, cell: str | None = None) -> Any:
        """Run the magic; None where a ``;`` ends its line and nothing takes its value."""
        from maas_magics.magics.options import HelpAsked
        from maas_magics.magics.shell import Magic

        scope = scope_of(self._shell)
        try:
            value = self._module.run(Magic(self._shell, self._session(), scope), line, cell)
        except HelpAsked as asked:
            print(asked)
            return None
        return None if not scope.inside and _silenced(self._shell, self._name, line) else value

    @property
    def _module(self) -> Any:
        from maas_magics.magics import maas

        return maas if self._name == "maas" else maas.words()[self._name]

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        """The magic's help, for ``%train?``."""
        return str(self._module.overview() if self._name == "maas" else self._module.COMMAND.help())


def register(shell: Any, session: Callable[[], Session]) -> None:
    """Bring every magic and its completion into a shell; those of other packages come with the next cell."""
    names = set(NAMES)
    for name in NAMES:
        kind = "line_cell" if name in BODIES else "line"
        shell.register_magic_function(LazyMagic(shell, session, name), kind, name)
    unregister_completion(shell)
    _forget(shell)
    shell.Completer.custom_matchers.append(_matcher(session, shell))
    shell.ast_transformers.append(References(names))
    shell.input_transformer_manager.token_transformers.append(make_return(names))

    def bring(info: Any = None) -> None:
        # Looking for entry points takes longer than all of the above.
        shell.events.unregister("pre_run_cell", bring)
        lines = shell.magics_manager.magics["line"]
        if isinstance(lines.get("train"), LazyMagic):
            from maas_magics.api.verbs import brought

            for name in (name for name in brought() if name not in lines):
                shell.register_magic_function(LazyMagic(shell, session, name), "line", name)
                names.add(name)

    shell.events.register("pre_run_cell", bring)


def unregister(shell: Any) -> None:
    """Take them out again."""
    for magics in shell.magics_manager.magics.values():
        for name in [name for name, magic in magics.items() if isinstance(magic, LazyMagic)]:
            del magics[name]
    unregister_completion(shell)
    _forget(shell)


def unregister_completion(shell: Any) -> None:
    """Take the completion out of a shell."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [matcher for matcher in matchers if getattr(matcher, "matcher_identifier", "") != "maas_magics"]


def _matcher(session: Callable[[], Session], shell: Any) -> Callable[[Any], Any]:
    from IPython.core.completer import SimpleMatcherResult, context_matcher

    def match(context: Any) -> Any:
        if "%" not in context.text_until_cursor:
            return SimpleMatcherResult(completions=[])
        from maas_magics.magics.completion import matches

        return matches(context, session, shell)

    matcher: Callable[[Any], Any] = context_matcher(identifier="maas_magics", priority=200)(match)
    return matcher


def _forget(shell: Any) -> None:
    """Take out what reads cells for the sake of magics in functions."""
    for made, ours in (
        (shell.ast_transformers, lambda one: isinstance(one, References)),
        (shell.input_transformer_manager.token_transformers, lambda one: one.__module__ == References.__module__),
    ):
        made[:] = [one for one in made if not ours(one)]


def _silenced(shell: Any, name: str, line: str) -> bool:
    """Whether a ``;`` ends the line and nothing takes its value.

    IPython's own ``output_can_be_silenced`` takes the value of ``x = %train …;`` away too, and reads the line as
    Python, which fails on a file's name such as ``3.csv`` once the work is done.
    """
    from maas_magics.magics.words import uncommented

    taken = f"= get_ipython().run_line_magic({name!r}, {line!r})"
    return uncommented(line).endswith(";") and taken not in shell.history_manager.input_hist_parsed[-1]
