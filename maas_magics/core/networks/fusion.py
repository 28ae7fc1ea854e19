"""A network for columns that reach it by themselves, beside numbers and categories."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from maas_magics.core.features.port import Port
from maas_magics.core.features.processor import NetworkInputs
from maas_magics.core.networks.columns import ColumnNetwork
from maas_magics.core.networks.encoders import encoder_of
from maas_magics.core.networks.parted import Parted

Encoders = Callable[[Port], nn.Module]


class Fusion(nn.Module):
    """Each column by itself becomes a vector; vectors stand side by side, and layers answer from them.

    Numbers and categories together are one vector more.

    Parameters
    ----------
    features : NetworkInputs
    outputs : int
    encoders : callable
        From a port to the module that makes its vectors, which has their ``size``.
    hidden : int
        Width of the layer before the answer; 0 answers from the vectors.
    dropout : float
    faster : float
        Times the learning rate at which all but pretrained encoders learn.
    compare : bool
        Whether two columns of texts are read by one encoder, and the difference and the product of their vectors stand
        beside those (Conneau et al. 2017; Reimers and Gurevych 2019): of vectors alone no layer sees what is alike.
    """

    compared: tuple[int, ...] = ()
    """Places of the two columns that are compared."""

    def __init__(
        self,
        features: NetworkInputs,
        outputs: int,
        encoders: Encoders = encoder_of,
        hidden: int = 128,
        dropout: float = 0.2,
        faster: float = 1.0,
        compare: bool = False,
    ) -> None:
        super().__init__()
        self.faster = faster
        self.encoders = nn.ModuleList(encoders(port) for port in features.ports)
        texts = tuple(place for place, port in enumerate(features.ports) if port.kind == "text")
        if compare and len(texts) == 2 and len({features.ports[place].shape for place in texts}) == 1:
            self.compared = texts
            self.encoders[texts[1]] = self.encoders[texts[0]]
        size = sum(cast(int, encoder.size) for encoder in self.encoders)
        size += sum(cast(int, self.encoders[place].size) for place in self.compared)
        self.columns: ColumnNetwork | None = None
        if features.numeric or features.categories:
            self.columns = ColumnNetwork(
                features.numeric, features.categories, embedding=None, bins=24, onehot=9, category=8
            )
            self.beside = nn.Sequential(nn.Linear(sum(self.columns.chunks), hidden or 64), nn.ReLU())
            size += hidden or 64
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(size, hidden) if hidden else None
        self.head = nn.Linear(hidden or size, outputs)

    def initialise(self, numeric: Tensor, categorical: Tensor, *ports: Tensor) -> None:
        """Place the bins of the numeric columns on the training rows, and read pretrained weights."""
        if self.columns is not None:
            self.columns.initialise(numeric, categorical)
        for encoder in self.encoders:
            if is_pretrained(encoder):
                encoder.initialise()  # type: ignore[operator]

    def forward(self, numeric: Tensor, categorical: Tensor, *ports: Tensor) -> Tensor:
        """Outputs (n, outputs)."""
        found = [encoder(x) for encoder, x in zip(self.encoders, ports, strict=True)]
        if self.compared:
            one, other = (found[place] for place in self.compared)
            found += [(one - other).abs(), one * other]
        if self.columns is not None:
            found.append(self.beside(self.columns.inputs(numeric, categorical)))
        x = torch.cat(found, 1) if len(found) > 1 else found[0]
        if self.hidden is not None:
            x = self.hidden(self.dropout(x)).relu()
        return cast(Tensor, self.head(self.dropout(x)))

    def parameter_groups(self) -> list[dict[str, object]]:
        """Weights of layers decay; embeddings, norms and biases do not. What is new may learn faster."""
        return parameter_groups(self, self.encoders, self.faster)

    def parted(self) -> Parted:
        """Its pretrained encoders, and everything else."""
        return Parted(_Vectors(self.encoders), _Behind(self))


class _Vectors(nn.Module):
    """What is behind pretrained encoders gets: their vectors, and any other column as it came."""

    def __init__(self, encoders: nn.ModuleList) -> None:
        super().__init__()
        self.encoders = encoders

    def forward(self, numeric: Tensor, categorical: Tensor, *ports: Tensor) -> tuple[Tensor, ...]:
        each = zip(self.encoders, ports, strict=True)
        return numeric, categorical, *(encoder(x) if is_pretrained(encoder) else x for encoder, x in each)


class _Behind(Fusion):
    """A fusion behind its pretrained encoders, whose other layers it shares, by the same names."""

    def __init__(self, whole: Fusion) -> None:
        nn.Module.__init__(self)
        self.faster = 1.0  # all of it is new
        self.encoders = nn.ModuleList(nn.Identity() if is_pretrained(one) else one for one in whole.encoders)
        self.columns, self.compared = whole.columns, whole.compared
        if whole.columns is not None:
            self.beside = whole.beside
        self.dropout, self.hidden, self.head = whole.dropout, whole.hidden, whole.head


def parameter_groups(net: nn.Module, encoders: Iterable[nn.Module], faster: float) -> list[dict[str, object]]:
    """Parameters by how fast they learn, and whether they decay, of a network over encoders.

    Parameters
    ----------
    net : nn.Module
        The network.
    encoders : iterable of nn.Module
        Its encoders.
    faster : float
        Times the learning rate at which all but pretrained encoders learn.
    """
    kept = {id(p) for encoder in encoders if is_pretrained(encoder) for p in encoder.parameters()}
    tables = {id(module.weight) for module in net.modules() if isinstance(module, nn.Embedding)}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for parameter in net.parameters():
        decays = float(parameter.dim() > 1 and id(parameter) not in tables)
        factor = 1.0 if id(parameter) in kept else faster
        groups.setdefault((factor, decays), []).append(parameter)
    return [
        {"params": params, "lr_factor": factor, "weight_decay_factor": decays}
        for (factor, decays), params in groups.items()
    ]


def is_pretrained(encoder: nn.Module) -> bool:
    """Whether an encoder reads weights when a training begins.

    Parameters
    ----------
    encoder : nn.Module
        One of a network's encoders.
    """
    return callable(getattr(encoder, "initialise", None))
