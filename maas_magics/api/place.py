"""Where models are kept by default."""

from __future__ import annotations

import os


def default_place() -> str:
    """Folder or URL of the store: ``MAAS_STORE``, else the user's data folder."""
    chosen = os.environ.get("MAAS_STORE")
    if chosen:
        return chosen
    from platformdirs import user_data_path

    return str(user_data_path("maas_magics"))
