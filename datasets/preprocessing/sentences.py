"""Texts for sentence encoders, one or two at a time, and the corpus that an exported encoder searches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo import lookup
from zoo.datasets.preprocessing.base import object_array, register_preprocessor
from zoo.datasets.preprocessing.text import text_request
from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor
from zoo.errors import UsageError
from zoo.tasks import Request

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

_TEXT, _PAIR = "text", "text_pair"
_IDS_FILE, _TEXTS_FILE = "corpus_ids.txt", "corpus_texts.txt"
PAIR_PREFIX = "pair_"
"""The beginning of the names of the second text's model inputs."""


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Texts to search, with their vectors.

    Attributes:
        name: where they come from, such as `lines:faq.txt`.
        ids: an id for every text, without line breaks.
        texts: the texts, without line breaks.
        vectors: float32 (different texts, hidden_size), each of length 1; None before an encoder has read them.
        rows: int32 (texts,), the row of each text's vector. Texts with the same tokens share a row, so that their scores are
            exactly equal.
    """

    name: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: np.ndarray[Any, Any] | None = None
    rows: np.ndarray[Any, Any] | None = None


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class SentencePreprocessor(WordPiecePreprocessor):
    """Texts to BERT's inputs, and for serving also a second text, and a corpus to search.

    Attributes:
        corpus: the texts that the signature `search` searches; None without such a signature. It belongs to an export, and
            not to the training, so `config` leaves it out.

    Example:
        >>> vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world")
        >>> requests = {"text": tf.constant(["Hello"]), "text_pair": tf.constant(["World"])}
        >>> inputs, extras = SentencePreprocessor(vocabulary, 8).serve(requests)
        >>> inputs["token_ids"].numpy().tolist(), extras["pair_token_ids"].numpy().tolist()
        ([[2, 4, 3]], [[2, 5, 3]])
    """

    corpus: Corpus | None = None
    _assets: Path | None = dataclasses.field(default=None, compare=False, repr=False)
    _items: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    kind: ClassVar[str] = "sentences"

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[Self, dict[str, Any]]:
        """As `WordPiecePreprocessor.for_model`.

        Raises:
            UsageError: as there, or an example has a label and two texts.
        """
        if _PAIR in data.features:
            raise UsageError(
                f"Data set {data.name!r} has labels of pairs of texts; expected labels of single texts, or pairs that belong "
                "together. Leave the column of the label out, or that of text_pair."
            )
        return super().for_model(data, needs, arguments)

    @classmethod
    def without_data(cls, needs: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """The vocabulary and the rules are those of the checkpoint."""
        return cls(**needs["checkpoint"].preprocessing(), max_length=arguments["max_length"]), {}

    @property
    def requests(self) -> dict[str, Request]:
        """`text` and `text_pair`, string (batch,), UTF-8."""
        return {name: text_request(name) for name in (_TEXT, _PAIR)}

    @property
    def limits(self) -> tuple[str, ...]:
        """As for single texts, and what is searched."""
        if self.corpus is None:
            return super().limits
        count = len(self.corpus.texts)
        return (
            *super().limits,
            f"`search` knows the {count:,} texts of {self.corpus.name}, and returns the nearest ones.",
        )

    def encode(self, examples: Tensors) -> Batch:
        """Turns `text` and its label, or the number of its pair, into model inputs and the target."""
        return self(examples[_TEXT]), self.targets.encode(examples), {}

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns `text`, string (batch,), into model inputs. The extras are `lengths`, int32 (batch,); with `text_pair` the
        model inputs of the second texts, whose names begin with `pair_`; otherwise with a corpus its `corpus` and
        `corpus_rows`, the vectors and the row of each text."""
        inputs = self(requests[_TEXT])
        extras = {"lengths": tf.reduce_sum(inputs["padding_mask"], axis=1)}
        if _PAIR in requests:
            return inputs, extras | {f"{PAIR_PREFIX}{k}": v for k, v in self(requests[_PAIR]).items()}
        if self.corpus is not None:
            extras |= {"corpus": tf.identity(self._item("vectors")), "corpus_rows": tf.identity(self._item("rows"))}
        return inputs, extras

    def found(self, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns ids and texts of the corpus, strings of the shape of the numbers."""
        numbers = tf.cast(numbers, tf.int64)
        return self._item("ids").lookup(numbers), self._item("texts").lookup(numbers)

    def _item(self, name: str) -> Any:
        """A table or tensor of the corpus by name, created on first access. With a folder, tables read files."""
        if name not in self._items:
            with tf.init_scope():  # needed if the first access is in a traced function
                self._items[name] = self._make(name)
        return self._items[name]

    def _make(self, name: str) -> Any:
        assert self.corpus is not None
        if name in ("vectors", "rows"):
            values = getattr(self.corpus, name)
            if self._assets is None:
                return tf.constant(values)
            # A variable is saved next to the graph and not in it, so it may be large.
            return tf.Variable(values, trainable=False, name=f"corpus_{name}")
        if self._assets is not None:
            return lookup.lines_by_number(self._assets / (_IDS_FILE if name == "ids" else _TEXTS_FILE), "")
        lines = self.corpus.ids if name == "ids" else self.corpus.texts
        return lookup.in_memory(tf.range(len(lines), dtype=tf.int64), tf.constant(lines, tf.string), "")

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns texts as a client sends them. The second text of an example is the first text of the next one."""
        texts = [example[_TEXT] for example in examples]
        return {_TEXT: object_array(texts), _PAIR: object_array([*texts[1:], *texts[:1]])}

    def for_export(self, directory: Path) -> tuple[Self, list[Any]]:
        """Returns an equal preprocessor whose vocabulary and corpus are files in `directory`, and the objects to save."""
        served, resources = super().for_export(directory)
        if self.corpus is None:
            return served, resources
        for file, lines in ((_IDS_FILE, self.corpus.ids), (_TEXTS_FILE, self.corpus.texts)):
            (directory / file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
        served = dataclasses.replace(served, _assets=directory, _items={})
        return served, [*resources, *(served._item(name) for name in ("ids", "texts", "vectors", "rows"))]
