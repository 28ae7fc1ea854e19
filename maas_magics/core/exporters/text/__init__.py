"""File formats for models that write texts, token by token: each keeps what was read in a cache of its own."""

from __future__ import annotations

from maas_magics.core.exporters import Exporter
from maas_magics.core.registry import Registry

text_exporters: Registry[Exporter] = Registry(
    "export format of models that write texts", __name__, "maas_magics.text_exporters"
)
