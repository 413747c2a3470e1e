"""Preprocessors: raw feature in, model input out, from core TensorFlow ops.

One object per run. Training maps it over batches; the exporter traces the same object into the SavedModel, so that what
is served is what was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from zoo.registries import Registry

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from zoo.datasets.raw import RawData
    from zoo.tasks import Request

Tensors = Mapping[str, "tf.Tensor"]
Batch = tuple[Tensors, Tensors, Tensors]
"""Inputs, targets, and weights by the targets' names where there are any: each a dict of tensors, a row per example."""


class Preprocessor(Protocol):
    """What every preprocessor offers; `register_preprocessor` adds one under its `kind`, the name that tasks use.

    One may also offer `redraw(inputs, targets, weights, key)`, which makes another batch of a training batch, as a function
    of it and of the key, int64 (2,), alone: every epoch gets batches of its own then, and a killed run repeats them.
    """

    kind: ClassVar[str]
    padding: ClassVar[float]
    """What sequences of numbers are filled up with at their end; integers get 0."""

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[Preprocessor, dict[str, Any]]:
        """Makes one from a data set (fitted on its training split), the spec's `preprocessing` and the builder arguments
        so far; returns it with the builder arguments that it fixes. A model that starts from published weights has them in
        `needs["checkpoint"]`, a `zoo.checkpoints.Checkpoint`."""

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the longest model inputs there are, by name. Several have the names of the model's inputs; the name of
        a single one is free."""

    @property
    def requests(self) -> dict[str, Request]:
        """All raw inputs that signatures take, by name."""

    @property
    def limits(self) -> tuple[str, ...]:
        """What it refuses, what it cuts and what it makes of unknown input, in sentences for the model card."""

    def encode(self, examples: Tensors) -> Batch:
        """A batch of raw examples as inputs, targets and weights. Weights have the names of targets, and are 0 on padding; a
        target without weights counts once for each example. An input that is called padding_mask, 1 on what is real and 0
        on padding, says how long an example is."""

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """A batch without what is padding in all of its rows."""

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """A batch of raw requests, some of `requests`, as model inputs, and side products that an answer may show."""

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Raw examples of a data set as a client would send them, every input of `requests`."""

    def for_export(self, directory: Path) -> tuple[Preprocessor, list[Any]]:
        """An equal one that reads its vocabularies from files, which it writes into a folder, and what must be saved with
        it; the files become the artifact's assets."""

    def config(self) -> dict[str, Any]:
        """Everything that it takes to make an equal one: `get_preprocessor(kind)(**config)`."""


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
        UsageError: no such kind; the message offers the nearest.

    Example:
        >>> get_preprocessor("image").__name__
        'ImagePreprocessor'
    """
    return PREPROCESSORS.get(kind)
