"""Labels of a network of a Hugging Face folder."""

from __future__ import annotations

from maas_magics.api.errors import ModelError
from maas_magics.core.networks.hub import HubFolder


def check_head(folder: HubFolder, endings: tuple[str, ...], kind: str) -> None:
    """Raise `ModelError` where a folder's network has not the head that a kind of import is for.

    Parameters
    ----------
    folder : HubFolder
        The folder.
    endings : tuple of str
        Of the classes of transformers that have it.
    kind : str
        Name of the kind of import.
    """
    named = [str(name) for name in folder.config.get("architectures") or ()]
    if any("For" in name for name in named) and not any(name.endswith(endings) for name in named):
        raise ModelError(f"{folder.path} holds {', '.join(named)}, which {kind} is not for.", "Drop --kind.")


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
