"""Options that several magics take."""

from __future__ import annotations

from maas_magics.magics import offers
from maas_magics.magics.options import Option, commas, text
from maas_magics.magics.words import Names

METRIC_NAMES = ("accuracy", "balanced_accuracy", "f1", "auc", "log_loss", "rmse", "mae", "r2")

MODEL = Option(("name",), "NAME, NAME:3 or NAME@alias", metavar="NAME", offer=offers.models)

DATA = Option(
    ("--data", "-d"),
    "table or array in a variable, a path or URL; X y for two arrays",
    Names.data,
    "DATA",
    "+",
    offer=offers.tables,
    required=True,
)

CSV = Option(
    ("--csv",),
    "how CSV files are written: sep=; decimal=, encoding=latin-1 missing=NA dates=dmy skip=2 header=no",
    text,
    "KEY=VALUE",
    "+",
    offer=("sep=;", "sep=tab", "decimal=,", "encoding=latin-1", "missing=NA", "dates=dmy", "skip=1", "header=no"),
)

METRICS = Option(
    ("--metrics",),
    "metrics as a,b: ours, classes of torchmetrics, functions",
    commas,
    "NAMES",
    offer=lambda typed: [*METRIC_NAMES, *offers.functions(typed)],
    listed=True,
)
