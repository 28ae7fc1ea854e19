"""What is learnt: kinds of tasks by name, one file for each.

Another package adds one, a class derived from `maas_magics.core.tasks.base.Task`, by an entry point of the group
``maas_magics.tasks``. It is learnt where it is requested by its name, which is its tag; no target implies it by
itself.
"""

from __future__ import annotations

from maas_magics.core.registry import Registry
from maas_magics.core.tasks.base import Task

tasks: Registry[type[Task]] = Registry("task", __name__, "maas_magics.tasks")
