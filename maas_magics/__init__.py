"""A model service inside your notebook.

``%load_ext maas_magics`` brings ``%train``, ``%evaluate``, ``%export``, ``%predict`` and ``%maas``;
the functions here do the same for scripts::

    import maas_magics as maas

    maas.train("penguins", data=df, target="species")
    maas.predict("penguins", df)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maas_magics.api.errors import MaasError
    from maas_magics.functions import (
        alias,
        attach,
        augmented,
        compare,
        connect,
        encrypt,
        evaluate,
        export,
        generate,
        highlight,
        import_model,
        jobs,
        load,
        logs,
        make_key,
        models,
        predict,
        pull,
        push,
        remove,
        rotate_key,
        run,
        search,
        serve,
        show,
        sign,
        status,
        stop,
        sync,
        train,
    )

__all__ = [
    "MaasError",
    "alias",
    "attach",
    "augmented",
    "compare",
    "connect",
    "encrypt",
    "evaluate",
    "export",
    "generate",
    "highlight",
    "import_model",
    "jobs",
    "load",
    "load_ipython_extension",
    "logs",
    "make_key",
    "models",
    "predict",
    "pull",
    "push",
    "remove",
    "rotate_key",
    "run",
    "search",
    "serve",
    "show",
    "sign",
    "status",
    "stop",
    "sync",
    "train",
    "unload_ipython_extension",
]


def load_ipython_extension(shell: Any) -> None:
    """Bring the magics into an IPython shell: ``%load_ext maas_magics``.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        Shell that gets the magics.
    """
    from maas_magics.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics out again: ``%unload_ext maas_magics``.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        Shell that has the magics.
    """
    from maas_magics.extension import unload

    unload(shell)


def __getattr__(name: str) -> Any:
    if name in __all__:
        place = "maas_magics.api.errors" if name == "MaasError" else "maas_magics.functions"
        return getattr(import_module(place), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
