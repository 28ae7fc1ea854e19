"""Texts and pictures that a network gives a label, several labels, or a number."""

from __future__ import annotations

from maas_magics.core.data.labels import TEXT
from maas_magics.core.features.modalities.image import ImageFeature
from maas_magics.core.features.modalities.text import TextFeature
from maas_magics.core.features.tokens import padding_id, tokenizer
from maas_magics.core.importers import Imported, importers
from maas_magics.core.importers.labels import check_head, labels_of
from maas_magics.core.networks.hub import HubFolder
from maas_magics.core.networks.kinds import asked_of, kind_of
from maas_magics.core.tasks.base import Link, Task
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.core.tasks.multilabel import Multilabel
from maas_magics.core.tasks.regression import Regression

NUMBERS, SEVERAL = "regression", "multi_label_classification"
"""What transformers calls them in ``problem_type``."""


def task_of(folder: HubFolder) -> Task:
    """What a network with such a configuration answers, as transformers' own pipeline decides it.

    Parameters
    ----------
    folder : HubFolder
        The folder.
    """
    labels, problem = labels_of(folder), folder.config.get("problem_type")
    if problem == NUMBERS or (problem is None and len(labels) == 1):
        names = ("value",) if len(labels) == 1 else labels
        zeros, ones = (0.0,) * len(names), (1.0,) * len(names)
        link: Link = "identity" if problem == NUMBERS else "sigmoid"
        return Regression(names, center=zeros, scale=ones, flat=len(names) == 1, link=link)
    if problem == SEVERAL:
        return Multilabel(labels, (False, True), flat=False, kind="bool")
    return Multiclass(("label",), labels, kind=TEXT)


def text_feature(folder: HubFolder, column: str) -> TextFeature:
    """A column of texts as a network reads them.

    Parameters
    ----------
    folder : HubFolder
        The folder.
    column : str
        Name of the column.
    """
    source = folder.tokenizer
    return TextFeature(
        column,
        tokenizer=source,
        size=tokenizer(source, 0).get_vocab_size(),
        padding=padding_id(source),
        longest=folder.most,
    )


class TextClassification:
    """``…ForSequenceClassification`` over texts."""

    def accepts(self, folder: HubFolder) -> bool:
        """Whether a folder holds such a network."""
        return _ends(folder, "ForSequenceClassification") and kind_of(folder) == "text"

    def read(self, folder: HubFolder, column: str) -> Imported:
        """The text, and what it gets."""
        check_head(folder, ("ForSequenceClassification",), "text-classification")
        return Imported("hf", text_feature(folder, column or "text"), task_of(folder), {"own_head": True})


class ImageClassification:
    """``…ForImageClassification``."""

    def accepts(self, folder: HubFolder) -> bool:
        """Whether a folder holds such a network."""
        return _ends(folder, "ForImageClassification")

    def read(self, folder: HubFolder, column: str) -> Imported:
        """The picture, and what it gets."""
        check_head(folder, ("ForImageClassification",), "image-classification")
        feature = ImageFeature(column or "picture", **asked_of(folder, "image"))
        return Imported("hf", feature, task_of(folder), {"own_head": True, "kind": "image"})


def _ends(folder: HubFolder, ending: str) -> bool:
    return any(str(name).endswith(ending) for name in folder.config.get("architectures") or ())


importers.register("text-classification")(TextClassification())
importers.register("image-classification")(ImageClassification())
