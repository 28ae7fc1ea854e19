"""The trees of scikit-learn's histogram gradient boosting as arrays.

No public part holds them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from maas_magics.api.errors import IncompatibleVersion


class Tree(NamedTuple):
    """A tree; a node's children are places of nodes.

    Attributes
    ----------
    feature : ndarray of int64, shape (nodes,)
        Column that decides; 0 at a leaf.
    threshold : ndarray of float32, shape (nodes,)
        Rows with at most that go left.
    left, right : ndarray of int64, shape (nodes,)
        A leaf is its own child.
    value : ndarray of float32, shape (nodes,)
        What a leaf adds.
    """

    feature: Any
    threshold: Any
    left: Any
    right: Any
    value: Any


def trees_of(booster: Any) -> list[list[Tree]]:
    """Trees of a fitted booster, by round and output.

    Private is ``_predictors``. Seen in scikit-learn 1.5 to 1.9; else the networks ``trees`` are refused.

    Raises
    ------
    IncompatibleVersion
        If they are not where they were.
    """
    try:
        return [[_tree(tree.nodes) for tree in trees] for trees in booster._predictors]
    except (AttributeError, ValueError, KeyError) as error:
        raise _moved(error) from error


def base_of(booster: Any) -> Any:
    """What a fitted booster begins with, float64 (outputs,).

    Private is ``_baseline_prediction``. Seen in scikit-learn 1.5 to 1.9; else the networks ``trees`` are refused.

    Raises
    ------
    IncompatibleVersion
        If it is not where it was.
    """
    try:
        return np.asarray(booster._baseline_prediction, dtype=np.float64).reshape(-1)
    except AttributeError as error:
        raise _moved(error) from error


def _tree(nodes: Any) -> Tree:
    leaf = nodes["is_leaf"].astype(bool)
    own = np.arange(len(nodes))
    exact = nodes["num_threshold"].astype(np.float64)
    near = exact.astype(np.float32)
    # The largest float32 that is not above: a float32 row is on the same side of both.
    near = np.where(near.astype(np.float64) > exact, np.nextafter(near, np.float32(-np.inf)), near)
    return Tree(
        np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
        np.where(leaf, 0, near).astype(np.float32),
        np.where(leaf, own, nodes["left"]).astype(np.int64),
        np.where(leaf, own, nodes["right"]).astype(np.int64),
        np.where(leaf, nodes["value"], 0).astype(np.float32),
    )


def _moved(error: Exception) -> IncompatibleVersion:
    return IncompatibleVersion(
        f"This scikit-learn keeps its trees elsewhere: {error}", "%pip install 'scikit-learn>=1.5.1'"
    )
