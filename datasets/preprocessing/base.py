"""Preprocessors turn raw features into model inputs with core TensorFlow ops.

There is one object per run. Training maps it over batches, and the exporter traces the same object into the SavedModel, so
that serving and training preprocess alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np

from zoo.registries import Registry

if TYPE_CHECKING:
    import tensorflow as tf

    from zoo.datasets.raw import RawData
    from zoo.tasks import Request

Tensors = Mapping[str, "tf.Tensor"]
Batch = tuple[Tensors, Tensors, Tensors]
"""Inputs, targets, and optional weights by the targets' names: each a dict of tensors with one row per example."""


def object_array(values: Sequence[Any]) -> np.ndarray:
    """Returns values, such as bytes, as an array of objects. NumPy's string types would drop a NUL at the end.

    Example:
        >>> object_array([b"a", b""]).tolist()
        [b'a', b'']
    """
    column = np.empty(len(values), object)
    column[:] = list(values)
    return column


class Unknown(NamedTuple):
    """How a preprocessor marks a token that it does not know.

    Attributes:
        input: the model input of token numbers.
        number: the number of the unknown token.
        advice: what to try if many tokens are unknown.
        many: the share of unknown tokens above which a warning is given.
    """

    input: str
    number: int
    advice: str
    many: float = 0.3


class Choices(NamedTuple):
    """What a preprocessor chose from the data because the user left it open. config.yaml records it.

    Attributes:
        arguments: arguments of the model's builder; those that the builder lacks are left out.
        options: options of the data set.
        notes: lines that are printed before training.
        facts: what it found in the data, for `Situation.facts`, from which the model recommends options.
    """

    arguments: Mapping[str, Any] = MappingProxyType({})
    options: Mapping[str, Any] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = MappingProxyType({})


class Preprocessor(Protocol):
    """The interface of a preprocessor. `register_preprocessor` adds one under its `kind`, the name that tasks use.

    A preprocessor may also have `redraw(inputs, targets, weights, key)`. It makes another batch from a training batch, and
    depends only on the batch and on the key, int64 (2,). Then every epoch has different batches, and a resumed run repeats
    them exactly.

    One whose examples are not those of the data has `arrange(split)`. It returns the `Split` of what `encode` and
    `to_requests` take, such as windows of joined texts.

    One with a vocabulary may have `unknown`, an `Unknown`: then the share of unknown tokens is printed before training.

    `generated(generator, count)` may make up raw requests by name, from a NumPy generator, with model inputs that no request
    determines. None is an example of the data. An export with `golden="generated"` needs it.

    `without_data(needs, arguments)` may be a class method that returns the same as `for_model`, from the spec's
    `preprocessing`, with the `checkpoint`, and the builder's arguments alone. Then published weights can be exported without
    a data set.

    One whose integers are no row numbers of tables, so that they may be below 0, has `row_numbers = False`.

    One whose requests are split into other steps than the examples has `to_targets(examples, lost=...)`, the targets of
    the requests by name; with `lost`, they include the targets of steps that the requests do not have.

    One whose columns have kinds has `reading`, the kind of every column by its name: other data for a run is read so.

    One that chooses arguments or options from the data has `choices`, a `Choices`.

    `described_inputs` may say what the model inputs hold, by name, for the model card: units, ranges, the files that number
    tokens or ids.
    """

    kind: ClassVar[str]
    padding: ClassVar[float]
    """Padding value at the end of floating-point sequences; integers are padded with 0."""

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[Preprocessor, dict[str, Any]]:
        """Creates a preprocessor from a data set (fitted on its training split), the spec's `preprocessing` and the builder
        arguments so far. Returns it and the builder arguments that it determines. For a model that starts from published
        weights, `needs["checkpoint"]` is a `zoo.checkpoints.Checkpoint`. For one that starts from the weights of a run,
        `needs["earlier"]` is the run's `Interface`: its vocabulary or image size is kept, to which the weights belong.
        `needs["quantiles"]` are the levels of the quantiles to predict, for `Targets.fit`. `needs["open"]` are the names of
        the builder's arguments that were left open, which `Choices` may set."""

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the longest possible model inputs, by name. Several inputs must have the names of the model's inputs; a
        single input may have any name."""

    @property
    def requests(self) -> dict[str, Request]:
        """All raw inputs of the signatures, by name."""

    @property
    def limits(self) -> tuple[str, ...]:
        """Which input it rejects, what it truncates and how it treats unknown input, as sentences for the model card."""

    def encode(self, examples: Tensors) -> Batch:
        """Turns a batch of raw examples into inputs, targets and weights. Weights have the names of targets, and are 0 on
        padding. A target without weights counts once per example. An input named padding_mask, 1 on real elements and 0 on
        padding, gives the length of an example."""

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Returns the batch without positions that are padding in all rows."""

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns a batch of raw requests, some of `requests`, into model inputs and side products for the outputs."""

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns raw examples of a data set as a client would send them, with every input of `requests`."""

    def for_export(self, directory: Path) -> tuple[Preprocessor, list[Any]]:
        """Writes the vocabularies as files into a folder. Returns an equal preprocessor that reads these files, and the
        objects that must be saved with it. The files become the artifact's assets."""

    def config(self) -> dict[str, Any]:
        """Returns the arguments that recreate it: `get_preprocessor(kind)(**config)`."""


PREPROCESSORS: Registry[Any] = Registry("preprocessor", "zoo.datasets.preprocessing")
KindT = TypeVar("KindT", bound=type)


def register_preprocessor(cls: KindT) -> KindT:
    """Registers a class as the preprocessor of its `kind`.

    Raises:
        ValueError: another module has registered the kind.

    Example:
        >>> @zoo.datasets.register_preprocessor
        ... class WaveformPreprocessor:
        ...     kind = "waveform"
    """
    PREPROCESSORS.add(cls.kind, cls, cls.__module__)  # type: ignore[attr-defined]
    return cls


def get_preprocessor(kind: str) -> Any:
    """Returns the class of a kind of preprocessor.

    Raises:
        UsageError: the kind is unknown; the message suggests the nearest.

    Example:
        >>> get_preprocessor("image").__name__
        'ImagePreprocessor'
    """
    return PREPROCESSORS.get(kind)
