"""What a column of a model's input is, and how it is fitted to the training rows.

A feature has two halves. The host half turns the values of a column into one raw array, which is what crosses the wire
to a service: `Feature.encode`. The graph half is a torch module that stands in every export: `Feature.module`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.api.signature import NUMPY, TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.mismatch import infinite
from maas_magics.core.features.port import Port
from maas_magics.core.features.scaling import Scaling

if TYPE_CHECKING:
    from torch import Tensor, nn

    from maas_magics.core.features.draw import Draw

LENGTH = 5
"""Of an open axis, in an example."""


class Feature(msgspec.Struct, frozen=True):
    """A fitted column. It is saved with the model as JSON, under its tag.

    Attributes
    ----------
    name : str
    joins : {"numbers", "codes", ""}
        Whether the network gets its tensors beside the numbers or the codes of other columns, or by themselves.
    gaps : bool
        Whether its raw array has NaN for what is missing.
    may_be_blank : bool
        Whether a value may carry no information: be missing, or unknown.
    timed : bool
        Whether its values are times, of some zone.
    lazy : bool
        Whether rows are encoded as an epoch requests them, by loader workers, and not all at once: because that is
        expensive, or because rows differ in length.
    ragged : bool
        Whether rows differ in length: those of a batch are padded to one length.
    hosted : bool
        Whether raw values are understood before they enter the graph (a text is tokenised, a file decoded), for no
        graph can: every engine gets what `enter` makes of them.
    binary : bool
        Whether raw values are the bytes of files, and not texts.
    answered : bool
        Whether each place of a raw row has an answer of its own.
    masked : bool
        Whether each pixel of a value may have an answer; see `mask`.
    spanned : bool
        Whether words of a text have answers, which are handed out as spans of its letters; see `answer`.
    infinite : bool
        Whether infinite numbers are taken as they are, and not as missing.
    sampled : bool
        Whether a sampler gives its values, pass after pass, and not the rows that are asked.
    """

    name: str

    joins: ClassVar[Literal["numbers", "codes", ""]] = ""
    gaps: ClassVar[bool] = False
    may_be_blank: ClassVar[bool] = False
    timed: ClassVar[bool] = False
    lazy: ClassVar[bool] = False
    ragged: ClassVar[bool] = False
    hosted: ClassVar[bool] = False
    binary: ClassVar[bool] = False
    answered: ClassVar[bool] = False
    spanned: ClassVar[bool] = False
    masked: ClassVar[bool] = False
    sampled: ClassVar[bool] = False
    infinite: ClassVar[bool] = False

    @property
    def augments(self) -> tuple[str, ...]:
        """Ways in which training rows may be varied."""
        return ()

    def varied(self, entered: Tensor, how: Mapping[str, float], draw: Draw) -> Tensor:
        """What enters the graph of some training rows, varied.

        Parameters
        ----------
        entered : Tensor, shape (n, …)
            What `entered` made.
        how : mapping of str to float
            Some of ``augments``, with their strengths.
        draw : Draw
            Random numbers for these rows.
        """
        return entered

    def varied_mask(self, mask: Tensor, how: Mapping[str, float], draw: Draw) -> Tensor:
        """Class indices of each pixel, moved as `varied` moves the pixels of a column that is ``masked``.

        Parameters
        ----------
        mask : Tensor, shape (n, 1, height, width)
            Of each row.
        how : mapping of str to float
            Some of ``augments``, with their strengths.
        draw : Draw
            Random numbers for these rows.
        """
        return mask

    def varied_after(self, made: Tensor, how: Mapping[str, float], draw: Draw) -> Tensor:
        """What the network gets of some training rows, varied.

        Parameters
        ----------
        made : Tensor, shape (n, …)
            What `module` made.
        how : mapping of str to float
            Some of ``augments``, with their strengths.
        draw : Draw
            Random numbers for these rows.
        """
        return made

    @property
    def spec(self) -> TensorSpec:
        """The raw input."""
        raise NotImplementedError

    @property
    def entry(self) -> TensorSpec:
        """What enters the graph of an export: the raw input, unless it is ``hosted``."""
        return self.spec

    @property
    def port(self) -> Port | None:
        """Where it reaches a network by itself, among other columns; None where it never does."""
        return None

    @property
    def answer(self) -> TensorSpec | None:
        """What a model of it answers, where that is not what its graph puts out."""
        return None

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Raw array of a column, shape (n, …), of the type that `spec` says.

        Parameters
        ----------
        values : pyarrow.ChunkedArray
            The column, n rows.

        Raises
        ------
        DataError
            If the values are of another kind than in training.
        """
        raise NotImplementedError

    def blank(self, raw: Array) -> Array:
        """Rows of a raw array without any information, bool (n,).

        Parameters
        ----------
        raw : ndarray, shape (n, …)
            What `encode` made.
        """
        return np.zeros(len(raw), dtype=bool)

    def check(self, raw: Array) -> None:
        """Raise `DataError` for values that no network learns from, such as infinite ones.

        Parameters
        ----------
        raw : ndarray, shape (n, …)
            What `encode` made of training rows.
        """
        if raw.dtype.kind == "f" and np.isinf(raw).any():
            raise infinite(self.name, raw)

    @property
    def table_rows(self) -> int:
        """Rows of the table that a module looks the numbers up in; 0 where it does not."""
        return 0

    @property
    def vocabulary(self) -> tuple[tuple[str, int], ...] | None:
        """Texts, and the code that each has in the graph; None where the raw array enters the graph as it is."""
        return None

    def enter(self, raw: Array) -> Array:
        """A raw array as it enters the graph in torch.

        Parameters
        ----------
        raw : ndarray, shape (n, …)
            What `encode` made.
        """
        return raw

    def ready(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """What is kept of a column while it is trained on: whatever makes `entered` cheap, and is not large.

        Parameters
        ----------
        values : pyarrow.ChunkedArray
            The column, n rows.
        """
        return values

    def entered(self, ready: pa.ChunkedArray) -> Array:
        """What enters the graph, of some rows of what `ready` kept.

        Parameters
        ----------
        ready : pyarrow.ChunkedArray
            What `ready` kept of these rows.
        """
        raw = self.encode(ready)
        self.check(raw)
        return self.enter(raw)

    def mask(self, value: bytes, mask: Any) -> Array:
        """Class numbers of what the network sees of a value, int32 (height, width), where it is ``masked``.

        Parameters
        ----------
        value : bytes
            Of the file.
        mask : bytes, list or ndarray
            Of the file of a picture whose pixels are class numbers, or these, (height, width).

        Raises
        ------
        DataError
            If it cannot be decoded, or is of another size.
        """
        raise NotImplementedError

    @property
    def costly(self) -> Array | None:
        """An array like each row of what `entered` makes, where that is expensive and is kept for later epochs."""
        return None

    def kept(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Values as they are kept with a model, whatever becomes of the files that they name.

        Parameters
        ----------
        values : pyarrow.ChunkedArray
            The column, n rows.
        """
        return values

    def module(self) -> nn.Module | None:
        """From what enters the graph to what the network gets, or to numbers that are scaled with those of others.

        None where it is as it entered.
        """
        return None

    def zone_assumed(self, values: pa.ChunkedArray) -> tuple[str, str] | None:
        """Zone that times were taken to be in, and that of those in training, where the two differ in kind.

        Parameters
        ----------
        values : pyarrow.ChunkedArray
            The column of the rows to predict.
        """
        return None

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Raw rows drawn at random, like those to expect; exports are checked on them.

        Parameters
        ----------
        rows : int
            Number of rows.
        random : numpy.random.Generator
            Where they are drawn from.
        """
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row of what the network gets of it, where that is by itself."""
        return tuple(self.spec.shape[1:])

    def lengths(self, ready: pa.ChunkedArray) -> Array | None:
        """Length of each row, int64 (n,), where rows differ in it: those of about one length share a batch.

        Parameters
        ----------
        ready : pyarrow.ChunkedArray
            What `ready` kept, n rows.
        """
        return None

    def sizes(self, raw: Array) -> Array | None:
        """About how many tokens each raw row has, int64 (n,), where rows differ in it; see `lengths`.

        Parameters
        ----------
        raw : ndarray, shape (n, …)
            What `encode` made.
        """
        return None

    def entered_sizes(self, entered: Array) -> Array | None:
        """Tokens of each row as it enters a graph, int64 (n,), without the padding behind; None where none can be cut.

        Parameters
        ----------
        entered : ndarray, shape (n, tokens)
            What `enter` made.
        """
        return None

    @property
    def most_tokens(self) -> int:
        """Tokens of a row that the network reads at most; 0 where rows have none, or any number."""
        return 0

    def cut(self, raw: Array) -> int:
        """How many raw rows are longer than the network reads, and are cut.

        Parameters
        ----------
        raw : ndarray, shape (n, …)
            What `encode` made.
        """
        return 0

    @property
    def example_row(self) -> tuple[int, ...]:
        """Shape of a row of an example; axes that are open have some length."""
        return tuple(LENGTH if size < 0 else size for size in self.spec.shape[1:])

    def example(self, rows: int) -> Array:
        """Raw rows that a graph is traced with: zeros, or empty texts.

        Parameters
        ----------
        rows : int
            Number of rows.
        """
        if self.spec.datatype == "BYTES":
            return np.full((rows, *self.example_row), "", dtype=object)
        return np.zeros((rows, *self.example_row), dtype=NUMPY[self.spec.datatype])

    @property
    def files(self) -> Mapping[str, bytes]:
        """Files that stand beside an export, by name: what turns raw values into those that enter its graph."""
        return {}

    @property
    def reader(self) -> str:
        """A Python function ``READ(values)`` from raw values to what enters the graph, for those without this package.

        Empty where the raw values enter the graph, or no short function makes of them what it takes.
        """
        return ""

    @property
    def reader_imports(self) -> tuple[str, ...]:
        """Lines that import what `reader` uses, beside numpy."""
        return ()

    @property
    def padded_with(self) -> float:
        """Value that rows of different length are padded with."""
        return 0.0

    def length(self, sure: bool = True) -> int:
        """Length of a row's first axis where a network may take others; 0 where it may not.

        Parameters
        ----------
        sure : bool
            Whether to leave out numbers beside each other, which may as well be so many quantities.
        """
        return 0

    def opened(self) -> Feature:
        """The feature with rows of any length."""
        return self

    def having(self, dtype: str, line: bool) -> Feature:
        """The feature with another type of floats, and with one number a row as shape (n,).

        Parameters
        ----------
        dtype : str
            Type of floats, such as ``"float64"``; empty for no change.
        line : bool
            Whether rows of one number have the shape (n,) rather than (n, 1).
        """
        return self


class NumberLike(Feature, frozen=True, kw_only=True):
    """A column that becomes numbers, which are filled, scaled and laid beside those of other columns.

    Attributes
    ----------
    scaling : Scaling
        Of each of its numbers.
    """

    scaling: Scaling = Scaling()

    joins: ClassVar[Literal["numbers", "codes", ""]] = "numbers"
    may_be_blank: ClassVar[bool] = True

    @property
    def exact(self) -> bool:
        """Whether float32 is too coarse for its numbers."""
        return True

    @property
    def names(self) -> list[str]:
        """A name for each of its numbers."""
        return [self.name]


class Coded(Feature, frozen=True):
    """A column that becomes one code a row, int64 (n, 1).

    Code 0 is that of what is missing or unseen.
    """

    joins: ClassVar[Literal["numbers", "codes", ""]] = "codes"
    may_be_blank: ClassVar[bool] = True

    @property
    def words(self) -> tuple[str, ...]:
        """What each code from 1 on stands for."""
        raise NotImplementedError
