"""What ``--compress`` names: compressors, one after the other. Not an exporter: it registers nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maas_magics.api.errors import OptionError
from maas_magics.core.compressors import Compressor, NetworkCompressor, compressors


@dataclass(frozen=True)
class Step:
    """One of the compressors that make a variant.

    Attributes
    ----------
    name : str
        As the variant is named after it, with its share where it takes one.
    tool : Compressor or NetworkCompressor
    share : float
        0 where it takes none.
    """

    name: str
    tool: Compressor | NetworkCompressor
    share: float = 0.0


def chain(asked: str) -> list[Step]:
    """Compressors of ``NAME``, ``NAME=SHARE`` or several with ``+``, all for one format, as they are named.

    Raises
    ------
    NotFound, OptionError
        If one is unknown, or they are for different formats.
    """
    if "," in asked:
        raise OptionError(
            f"Compressions are joined with +; {asked} was given.", f"--compress {asked.replace(',', '+')}"
        )
    found = [_step(part.strip()) for part in asked.split("+")]
    names = [each.name.partition("=")[0] for each in found]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), "")
    if twice:
        once = "+".join({name: each.name for name, each in zip(names, found, strict=True)}.values())
        raise OptionError(f"{twice} is named twice.", f"--compress {once}")
    formats = {each.tool.format for each in found}
    if len(formats) > 1:
        raise OptionError(f"{asked} is for several formats: {', '.join(sorted(formats))}.", "Name them one by one.")
    return found


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Steps as they are taken: those of networks come first, those that store come last."""
    return sorted(steps, key=lambda each: getattr(each.tool, "stage", 1))


def _step(asked: str) -> Step:
    name, sign, text = asked.partition("=")
    tool = compressors.get(name)
    if not isinstance(tool, NetworkCompressor):
        if sign:
            raise OptionError(f"{name} takes no share; {asked} was given.", f"--compress {name}")
        return Step(name, tool)
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1) if sign else tool.usual
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise OptionError(f"{asked} has no share above 0 and below 1.", f"--compress {name}={tool.usual:g}")
    return Step(f"{name}={share:g}", tool, share)


def format_of(asked: str) -> str:
    """The format that some compressors are for; see `chain`."""
    return chain(asked)[0].tool.format


def variant_of(asked: str) -> str:
    """The name of what some compressors make; see `chain`."""
    return "+".join(each.name for each in chain(asked))
