"""Which exporter makes a format, of a model of some task. Not an exporter: it registers nothing."""

from __future__ import annotations

from maas_magics.api.errors import ExportError
from maas_magics.core.exporters import Exporter, exporters
from maas_magics.core.exporters.text import text_exporters
from maas_magics.core.tasks.base import Task


def exporter_of(format: str, answers: Task, ref: str = "It") -> Exporter:
    """The exporter of a format.

    Parameters
    ----------
    format : str
        Its name.
    answers : Task
        What the model answers.
    ref : str
        What an error calls the model.

    Raises
    ------
    ExportError
        If no file of the format answers as such a model does.
    NotFound
        If there is no such format.
    """
    if why := answers.unexported:
        raise ExportError(f"{ref} has no export: {why}.", "%predict asks it, here and on a service.")
    if answers.runtime != "text":
        return exporters.get(format)
    if format in text_exporters:
        return text_exporters.get(format)
    if format in exporters:
        raise ExportError(
            f"{ref} writes texts, which no file of the format {format} does.", f"--format {text_exporters.names()[0]}"
        )
    return text_exporters.get(format)
