"""Preprocessors: raw feature in, model input out, from core TensorFlow ops.

One object per run. Training maps it over batches; the exporter traces the same object into the SavedModel, so that what
is served is what was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.images import ImagePreprocessor
from zoo.datasets.preprocessing.interactions import InteractionPreprocessor
from zoo.datasets.preprocessing.masking import MaskedTextPreprocessor
from zoo.datasets.preprocessing.series import SeriesPreprocessor
from zoo.datasets.preprocessing.tagging import TaggingPreprocessor
from zoo.datasets.preprocessing.text import TextPreprocessor
from zoo.datasets.preprocessing.translation import TranslationPreprocessor
from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor

if TYPE_CHECKING:
    from zoo.datasets.data import Batch, Data


class Preprocessor(Protocol):
    """What every preprocessor offers; `PREPROCESSORS` holds them by the name that tasks use.

    One may also offer `redraw(inputs, targets, weights, key)`, which makes another batch of a training batch, as a function
    of it and of the key, int64 (2,), alone: every epoch gets batches of its own then, and a killed run repeats them.
    """

    kind: ClassVar[str]
    padding: ClassVar[float]
    """What sequences of numbers are filled up with at their end; integers get 0."""

    @classmethod
    def for_model(
        cls, data: Data, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[Preprocessor, dict[str, Any]]:
        """Makes one from a data set (fitted on its training split), the spec's `preprocessing` and the builder arguments
        so far; returns it with the builder arguments that it fixes. A model that starts from published weights has them in
        `needs["checkpoint"]`, a `zoo.checkpoints.Checkpoint`."""

    @property
    def output_shape(self) -> tuple[int | None, ...] | dict[str, tuple[int | None, ...]]:
        """Shape of the longest model input there is; by input name where there are several."""

    @property
    def requests(self) -> dict[str, tf.TensorSpec]:
        """All raw inputs that signatures take, by name, with a batch dimension."""

    @property
    def limits(self) -> tuple[str, ...]:
        """What it refuses, what it cuts and what it makes of unknown input, in sentences for the model card."""

    def encode(self, examples: Mapping[str, tf.Tensor]) -> Batch:
        """A batch of raw examples as model inputs, targets and weights, which are None or 0 on padding. An input that is
        called padding_mask, 1 on what is real and 0 on padding, says how long an example is."""

    def trim(self, inputs: Any, targets: tf.Tensor, weights: tf.Tensor | None) -> Batch:
        """A batch without what is padding in all of its rows."""

    def serve(self, requests: Mapping[str, tf.Tensor]) -> tuple[Any, dict[str, tf.Tensor]]:
        """A batch of raw requests, some of `requests`, as model inputs, and side products that an answer may show."""

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Raw examples of a data set as a client would send them, every input of `requests`."""

    def for_export(self, directory: Path) -> tuple[Preprocessor, list[Any]]:
        """An equal one that reads its vocabularies from files, which it writes into a folder, and what must be saved with
        it; the files become the artifact's assets."""

    def config(self) -> dict[str, Any]:
        """Everything that it takes to make an equal one: `PREPROCESSORS[kind](**config)`."""


_KINDS: tuple[Any, ...] = (
    ImagePreprocessor,
    InteractionPreprocessor,
    MaskedTextPreprocessor,
    SeriesPreprocessor,
    TaggingPreprocessor,
    TextPreprocessor,
    TranslationPreprocessor,
    WordPiecePreprocessor,
)
PREPROCESSORS: dict[str, Any] = {cls.kind: cls for cls in _KINDS}
