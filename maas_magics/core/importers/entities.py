"""Networks with a tag for each word."""

from __future__ import annotations

from maas_magics.core.data.labels import TEXT
from maas_magics.core.features.modalities.words import WordsFeature
from maas_magics.core.features.tokens import for_words, padding_id, tokenizer
from maas_magics.core.importers import Imported, importers
from maas_magics.core.importers.labels import check_head, labels_of
from maas_magics.core.networks.hub import HubFolder
from maas_magics.core.networks.with_head import ABSENT
from maas_magics.core.tasks.entities import NO_WORD, OUTSIDE, Entities

HEAD = "ForTokenClassification"
"""How the classes of transformers end that have it."""


class TokenClassification:
    """``…ForTokenClassification``, of which the answer to the first token of each word counts."""

    def accepts(self, folder: HubFolder) -> bool:
        """Whether a folder holds such a network."""
        return any(str(name).endswith(HEAD) for name in folder.config.get("architectures") or ())

    def read(self, folder: HubFolder, column: str) -> Imported:
        """The words, and their tags, 'O' the first."""
        check_head(folder, (HEAD,), "token-classification")
        labels = labels_of(folder)
        tags = (OUTSIDE, *(label for label in labels if label != OUTSIDE))
        order = [labels.index(tag) if tag in labels else ABSENT for tag in tags]
        source = for_words(folder.tokenizer)
        feature = WordsFeature(
            column or "tokens",
            tokenizer=source,
            size=tokenizer(source, 0).get_vocab_size(),
            padding=padding_id(source),
            longest=folder.most,
        )
        task = Entities(("tags",), (NO_WORD, *tags), kind=TEXT)
        return Imported("hf", feature, task, {"own_head": True, "order": order})


importers.register("token-classification")(TokenClassification())
