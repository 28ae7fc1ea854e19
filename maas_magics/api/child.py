"""How every process of ours is started: it imports nothing from the folder that it is started in.

A notebook's folder may hold a ``secrets.py`` or a ``json.py`` of its own. ``-P`` keeps that folder from the path of
imports, and this file, which the process begins with, takes it out where ``PYTHONPATH`` put it there.
"""

from __future__ import annotations

import os
import runpy
import sys
import sysconfig
from collections.abc import MutableSequence

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""Folder that holds this package."""


def python(module: str, *words: str) -> list[str]:
    """Command line of ``python -m module words``, as a process of ours runs it.

    Parameters
    ----------
    module : str
        Module to run, by its dotted name.
    *words : str
        Arguments of the command line.
    """
    return [sys.executable, *arguments(module, *words)]


def arguments(module: str, *words: str) -> list[str]:
    """What follows the interpreter in it.

    Parameters
    ----------
    module : str
        Module to run, by its dotted name.
    *words : str
        Arguments of the command line.
    """
    return ["-P", os.path.abspath(__file__), module, *words]


def clear(path: MutableSequence[str], here: str) -> None:
    """Take the folder ``here`` out of a path of imports; this package is found in any case, after all others.

    Parameters
    ----------
    path : mutable sequence of str
        ``sys.path``, changed in place.
    here : str
        The folder to leave out.
    """
    out = {os.path.realpath(here)} - {os.path.realpath(kept) for kept in sysconfig.get_paths().values()}
    path[:] = [entry for entry in path if os.path.isabs(entry) and os.path.realpath(entry) not in out]
    if os.path.realpath(ROOT) not in map(os.path.realpath, path):
        path.append(ROOT)


if __name__ == "__main__":
    clear(sys.path, os.getcwd())
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
