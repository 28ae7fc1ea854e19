"""A network in two parts, of which the first one may stay as it is."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class Parted(NamedTuple):
    """A network as one part behind another.

    The parts share their layers with it: what one of them learns, it has learnt.

    Attributes
    ----------
    fixed : nn.Module
        From the network's inputs to a tuple of tensors, a row for each row; the same ones in eval mode whatever batch
        a row is in, but for rounding.
    behind : nn.Module
        From those to the network's outputs.
    padding : tuple of float
        What each of those tensors is padded with in its second axis, where rows differ in its length; empty where they
        do not.
    """

    fixed: nn.Module
    behind: nn.Module
    padding: tuple[float, ...] = ()
