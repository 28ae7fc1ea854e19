"""Labels of a network of a Hugging Face folder."""

from __future__ import annotations

from maas_magics.api.errors import ModelError
from maas_magics.core.networks.hub import HubFolder


def labels_of(folder: HubFolder) -> tuple[str, ...]:
    """Labels of a network, in the order of its outputs.

    Raises
    ------
    ModelError
        If two of them are the same.
    """
    named = folder.config.get("id2label") or {}
    count = len(named) or int(folder.config.get("num_labels", 2))
    found = tuple(str(named.get(str(place), f"LABEL_{place}")) for place in range(count))
    twice = next((label for label in found if found.count(label) > 1), None)
    if twice is not None:
        raise ModelError(f"The label {twice!r} stands twice in the id2label of config.json.", "Name each by itself.")
    return found
