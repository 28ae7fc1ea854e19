"""Options that several magics take."""

from __future__ import annotations

from maas_magics.magics import completions as offers
from maas_magics.magics.options import MagicOption

MODEL = MagicOption(("name",), "NAME, NAME:3 or NAME@alias", metavar="NAME", offer=offers.models)
