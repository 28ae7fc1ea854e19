"""Whether torch records what is computed, as a graph for other values."""

from __future__ import annotations


def is_traced() -> bool:
    """Whether a graph is made, in which nothing may be decided by values.

    Seen in torch 2.6 to 2.13.
    """
    try:
        from torch.fx.experimental.proxy_tensor import get_proxy_mode
    except ImportError:
        return False
    return get_proxy_mode() is not None
