"""Text preprocessing: words to numbers in the graph, with core TensorFlow string ops only."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo import lookup, registry
from zoo.datasets.preprocessing.base import Unknown, object_array, register_preprocessor
from zoo.datasets.preprocessing.targets import Targets
from zoo.errors import UsageError
from zoo.tasks import Request

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

PADDING, UNKNOWN = 0, 1
FIRST_WORD = 2
VOCABULARY_FILE = "vocabulary.txt"
_MIN_COUNT = 2
"""Words that occur once in training count as unknown, so that the model learns from unknown words."""


@dataclasses.dataclass(frozen=True)
class VocabularyPreprocessor:
    """Base of preprocessors that look words up in one vocabulary: its table, its file, and the request `text`.

    Attributes:
        vocabulary: the known words; the first word has the number 2.
        max_length: maximum number of words of a text.
    """

    vocabulary: tuple[str, ...]
    max_length: int
    _file: Path | None = dataclasses.field(default=None, compare=False, repr=False)
    _tables: list[tf.lookup.StaticHashTable] = dataclasses.field(default_factory=list, compare=False, repr=False)

    unknown: ClassVar[Unknown] = Unknown(
        "token_ids",
        UNKNOWN,
        "Words are split at spaces and punctuation. Pass a larger vocab_size or more texts; for languages without spaces "
        "between words, choose a model with subword tokens, such as bert.",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))  # it is a list if it was read from a file

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """{"token_ids": (max_length,)}."""
        return {"token_ids": (self.max_length,)}

    @property
    def requests(self) -> dict[str, Request]:
        """`text`: string (batch,), UTF-8."""
        return {"text": text_request("text")}

    @property
    def described_inputs(self) -> dict[str, str]:
        """How words are numbered."""
        return {"token_ids": f"line numbers of `assets/{VOCABULARY_FILE}`, from 0; 0 is padding, 1 an unknown word"}

    @property
    def limits(self) -> tuple[str, ...]:
        """How much of a text is used, and how unknown words are treated."""
        return (
            f"Only the first {self.max_length:,} words of a text are used. The rest is silently ignored.",
            f"The model knows the {len(self.vocabulary):,} entries of `assets/{VOCABULARY_FILE}`. Any other word becomes the "
            "unknown word. So does a text without words, and any bytes that are not UTF-8. No text is rejected.",
        )

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, list[str]]:
        """Returns texts of random known words."""
        return {"text": random_texts(self.vocabulary, generator, count)}

    def _table(self) -> tf.lookup.StaticHashTable:
        if not self._tables:
            with tf.init_scope():  # needed if the first access is in a traced tf.data function
                if self._file is None:
                    numbers = tf.range(FIRST_WORD, FIRST_WORD + len(self.vocabulary), dtype=tf.int64)
                    words = tf.constant(self.vocabulary, tf.string)
                    self._tables.append(lookup.in_memory(words, numbers, UNKNOWN))
                else:
                    # Lines 0 and 1 of the file are padding and the unknown word, so a word's number is its line's.
                    self._tables.append(lookup.numbers_of_lines(self._file, UNKNOWN))
        return self._tables[0]

    def for_export(self, directory: Path) -> tuple[Self, list[Any]]:
        """Returns an equal preprocessor whose vocabulary is a file in `directory`, and the objects to save with it."""
        file = directory / VOCABULARY_FILE
        file.write_text("".join(f"{word}\n" for word in ("[PAD]", "[UNK]", *self.vocabulary)), encoding="utf-8")
        served = dataclasses.replace(self, _file=file, _tables=[])
        return served, [served._table()]

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"vocabulary": list(self.vocabulary), "max_length": self.max_length}


_MOST_WORDS = 12


def random_texts(words: Sequence[str], generator: np.random.Generator, count: int) -> list[str]:
    """Returns `count` texts of 1 to 12 random words.

    Example:
        >>> random_texts(["on", "off"], np.random.default_rng(0), 1)
        ['off on off on on on on on on off off']
    """
    lengths = generator.integers(1, _MOST_WORDS + 1, count)
    return [" ".join(words[i] for i in generator.integers(0, len(words), length)) for length in lengths]


def text_request(name: str) -> Request:
    """Returns the request of a text."""
    return Request(name, "text", "string", (), "UTF-8")


USUAL_SIZES = {"vocab_size": 10_000, "max_length": 128}
"""Default vocabulary size and text length, if neither the builder's arguments nor the model's spec set them."""


def vocabulary_sizes(needs: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[int, int]:
    """Returns vocabulary size and maximum text length, from the builder's arguments or else from the spec.

    Raises:
        UsageError: one of them is not a whole number of at least 3.
    """
    sizes = []
    for name, usual in USUAL_SIZES.items():
        value = arguments.get(name)
        value = needs.get(name, usual) if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 3:
            raise UsageError(
                f"{name} is {value!r}; expected a whole number of at least 3. Pass {name}={needs.get(name, usual)}."
            )
        sizes.append(value)
    return sizes[0], sizes[1]


def check_vocabulary(name: str, vocabulary: Sequence[str], count: int) -> None:
    """Raises UsageError if no word of a data set is frequent enough; `count` is the number of its different words."""
    if not vocabulary:
        raise UsageError(
            f"Each of the {count:,} different words in the training split of data set {name!r} is too rare to learn. Pass "
            "more texts, check that the column holds texts, or choose a model with subword tokens, such as bert."
        )


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class TextPreprocessor(VocabularyPreprocessor):
    """Texts to word numbers, int32 (batch, tokens): 0 is padding, 1 an unknown word, words from 2 by falling frequency.

    Text is lower-cased and split at white space. Every punctuation mark and symbol (also emoji) is a separate word. A text
    without words becomes one unknown word. Words after the first `max_length` are ignored. Bytes that are not UTF-8 become
    U+FFFD, an unknown word.

    Attributes:
        vocabulary: the known words.
        max_length: maximum number of words of a text.
        targets: makes the model's targets.

    Example:
        >>> TextPreprocessor(("hello", "!"), 5)(["Hello, world!", ""]).numpy().tolist()
        [[2, 1, 1, 3], [1, 0, 0, 0]]
    """

    targets: Targets = dataclasses.field(default_factory=Targets)

    kind: ClassVar[str] = "text"
    padding: ClassVar[float] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "targets", Targets.restored(self.targets))

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[TextPreprocessor, dict[str, Any]]:
        """Selects the most frequent words of the training split, as many as fit in the builder's `vocab_size`."""
        if "text_pair" in data.features:
            models = registry.list_models(task=data.task, variants=False)
            able = [name for name in models if registry.get_spec(name).preprocessing.get("reads_pairs")]
            raise UsageError(
                f"Data set {data.name!r} has pairs of texts, but this model would read only the first text. Choose "
                f"{', '.join(able)}, or leave the column out."
            )
        most, longest = vocabulary_sizes(needs, arguments)
        targets = Targets.fit(data, needs.get("quantiles", ()))

        def made(vocabulary: tuple[str, ...]) -> tuple[TextPreprocessor, dict[str, Any]]:
            fixed = {"vocab_size": len(vocabulary) + FIRST_WORD, **targets.arguments}
            return cls(vocabulary, longest, targets=targets), fixed

        if (earlier := needs.get("earlier")) is not None:
            return made(earlier.preprocessor.vocabulary)
        counts: collections.Counter[bytes] = collections.Counter()
        for texts in data.train.map(lambda example: example["text"]).batch(1024):
            counts.update(words(texts).flat_values.numpy().tolist())
        ranked = sorted(((-n, w) for w, n in counts.items() if n >= _MIN_COUNT))[: most - FIRST_WORD]
        vocabulary = tuple(word.decode() for _, word in ranked)
        check_vocabulary(data.name, vocabulary, len(counts))
        return made(vocabulary)

    def __call__(self, raw: tf.Tensor) -> tf.Tensor:
        """Turns texts, string (batch,), into int32 (batch, tokens), padded to the longest text of the batch."""
        raw = tf.convert_to_tensor(raw)
        if raw.dtype != tf.string or raw.shape.rank != 1:
            raise UsageError(
                f"A text batch is {raw.dtype.name} of shape {raw.shape}; expected string (batch,). Pass a list."
            )
        return self._numbers(self._words(raw))

    def _words(self, raw: tf.Tensor) -> tf.RaggedTensor:
        """The words of texts; a text without words gets one empty word."""
        found = words(raw)[:, : self.max_length]
        empty = tf.cast(found.row_lengths() == 0, tf.int64)
        filler = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(empty)], ""), empty)
        return tf.concat([found, filler], axis=1)

    def _numbers(self, found: tf.RaggedTensor) -> tf.Tensor:
        numbers = found.with_flat_values(tf.cast(self._table().lookup(found.flat_values), tf.int32))
        return numbers.to_tensor(PADDING)

    def encode(self, examples: Tensors) -> Batch:
        """Turns `text` and the target into the input `token_ids` and the model's target."""
        return {"token_ids": self(examples["text"])}, self.targets.encode(examples), {}

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns `text`, string (batch,), into `token_ids`, int32 (batch, tokens), and `tokens`, the words of that shape."""
        found = self._words(requests["text"])
        return {"token_ids": self._numbers(found)}, {"tokens": found.to_tensor("")}

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Removes the columns that are padding in every row, so that batches of short texts are fast."""
        ids = inputs["token_ids"]
        used = tf.reduce_max(tf.reduce_sum(tf.cast(ids != PADDING, tf.int32), axis=1))
        return {"token_ids": ids[:, :used]}, targets, weights

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns texts of a data set as a client sends them."""
        return {"text": object_array([example["text"] for example in examples])}

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().config(), **self.targets.described()}


def words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Splits texts, string (batch,), into words, ragged string (batch, words).

    Example:
        >>> words(tf.constant(["It's 5 o'clock!"])).to_list()
        [[b'it', b"'", b's', b'5', b'o', b"'", b'clock', b'!']]
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    # This must precede lower-casing, which silently ends a text at its first NUL.
    texts = tf.strings.regex_replace(texts, r"[\pZ\pC]+", " ")
    texts = tf.strings.lower(texts, encoding="utf-8")
    texts = tf.strings.regex_replace(texts, r"([\p{P}\p{S}])", r" \1 ")
    return tf.strings.split(texts)
