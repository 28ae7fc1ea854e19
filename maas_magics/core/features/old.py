"""Preprocessing as version 0.1 wrote it: columns, and statistics of all their numbers side by side."""

from __future__ import annotations

from typing import Any

PHASES = 7
"""Numbers that a column of times becomes."""


def is_old(found: Any) -> bool:
    """Whether JSON is of version 0.1."""
    return isinstance(found, dict) and "columns" in found and "scaling" in found


def upgraded(found: dict[str, Any]) -> dict[str, Any]:
    """The same preprocessing as it is written today."""
    figures, layout = found["scaling"], found["layout"]
    origins, place, features = list(figures.get("origins", ())), 0, []
    for column in found["columns"]["columns"]:
        one = dict(column)
        kind = one["type"]
        if kind == "category" or (kind == "tensor" and layout != "image"):
            features.append(one if kind == "category" else _tensor(one))
        elif kind == "tensor":
            features.append(_tensor(one) | {"scaling": {name: figures[name] for name in ("center", "scale")}})
        else:
            if kind == "moment":
                one |= {"type": "timestamp", "origin": origins.pop(0) if origins else 0}
                width = PHASES
            else:
                one |= {"type": "number", "precise": one.pop("exact", False)}
                width = one.get("width", 1)
            if layout in ("tabular", "flat"):
                one["scaling"] = _part(figures, place, width)
            place += width
            features.append(one)
    plain = {"features": features, "layout": layout, "clip": figures.get("clip", 0.0)}
    return plain | {"dtype": figures.get("dtype", "float32")}


def _tensor(column: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tensor", "name": column["name"], "row": column["shape"], "dtype": column["dtype"]}


def _part(figures: dict[str, Any], start: int, width: int) -> dict[str, Any]:
    """Statistics of one column's numbers."""
    found: dict[str, Any] = {name: figures[name][start : start + width] for name in ("fill", "center", "scale")}
    inside = (place - start for place in figures.get("indicators", ()))
    return found | {"indicators": [place for place in inside if 0 <= place < width]}
