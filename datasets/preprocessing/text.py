"""Text preprocessing: words to numbers in the graph, with core TensorFlow string ops only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo import lookup, registry
from zoo.datasets.preprocessing.base import Choices, Unknown, object_array, register_preprocessor
from zoo.datasets.preprocessing.pair_encoding import MARK
from zoo.datasets.preprocessing.targets import Targets
from zoo.datasets.preprocessing.token_fitting import (
    WITHOUT_CHARACTERS,
    Fitted,
    characters_read,
    describe_lengths,
    fit_tokens,
    longest,
    measure,
    ngrams_of_characters,
)
from zoo.datasets.preprocessing.tokenizers import MOST_CHARACTERS, TOKENIZERS, Tokenizer
from zoo.errors import UsageError
from zoo.tasks import Request

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

PADDING, UNKNOWN = 0, 1
FIRST_WORD = 2
VOCABULARY_FILE = "vocabulary.txt"


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
    def word_numbers(self) -> dict[str, int]:
        """The numbers of the known words. Entries that are no words, such as forms, have a space."""
        return {word: number for number, word in enumerate(self.vocabulary, FIRST_WORD) if " " not in word}

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


def random_texts(words: Sequence[str], generator: np.random.Generator, count: int, separator: str = " ") -> list[str]:
    """Returns `count` texts of 1 to 12 random words, with a separator between words.

    Example:
        >>> random_texts(["on", "off"], np.random.default_rng(0), 1)
        ['off on off on on on on on on off off']
    """
    lengths = generator.integers(1, _MOST_WORDS + 1, count)
    return [separator.join(words[i] for i in generator.integers(0, len(words), length)) for length in lengths]


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
    """Texts to token numbers, int32 (batch, tokens): 0 is padding, 1 an unknown token, tokens from 2 by falling frequency.

    Text is normalised (`normalization.normalize`), lower-cased and split by one of the `TOKENIZERS`. Of words, every
    punctuation mark and symbol (also emoji) is a separate one. A text without words becomes one unknown word. Tokens after
    the first `max_length` are ignored. Bytes that are not UTF-8 become U+FFFD.

    Attributes:
        vocabulary: the known tokens.
        max_length: maximum number of tokens of a text.
        targets: makes the model's targets.
        tokenizer: words, characters or subwords.
        reads_characters: whether the model also has the input `characters`, int32 (batch, characters): the code points of
            the tokens, with a space before and after every word.
        most_characters: maximum number of code points of a text.

    Example:
        >>> TextPreprocessor(("hello", "!"), 5)(["Hello, world!", ""]).numpy().tolist()
        [[2, 1, 1, 3], [1, 0, 0, 0]]
        >>> TextPreprocessor(("好", "很"), 5, tokenizer="characters")(["很好吃"]).numpy().tolist()
        [[3, 2, 1]]
    """

    targets: Targets = dataclasses.field(default_factory=Targets)
    tokenizer: str = "words"
    reads_characters: bool = False
    most_characters: int = MOST_CHARACTERS
    choices: Choices = dataclasses.field(default=Choices(), compare=False, repr=False)

    kind: ClassVar[str] = "text"
    padding: ClassVar[float] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "targets", Targets.restored(self.targets))

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[TextPreprocessor, dict[str, Any]]:
        """Learns the most frequent tokens of the training split, as many as fit in the builder's `vocab_size`.

        The data set's option `tokenizer` chooses how texts are split, by default the texts themselves (`fit_tokens`). If
        `max_length` is open and the spec has `longest`, which is its maximum, the lengths of the training texts choose it.
        """
        if "text_pair" in data.features:
            models = registry.list_models(task=data.task, variants=False)
            able = [name for name in models if registry.get_spec(name).preprocessing.get("reads_pairs")]
            raise UsageError(
                f"Data set {data.name!r} has pairs of texts, but this model would read only the first text. Choose "
                f"{', '.join(able)}, or leave the column out."
            )
        most, usual = vocabulary_sizes(needs, arguments)
        targets = Targets.fit(data, needs.get("quantiles", ()))
        if (earlier := needs.get("earlier")) is not None:
            fitted = _earlier_tokens(data, earlier.preprocessor)
        else:
            fitted = fit_tokens(data, most - FIRST_WORD)
        made = cls(fitted.vocabulary, usual, targets=targets, tokenizer=fitted.tokenizer)
        lengths, codes = measure(data, made._sizes).reshape(-1, 2).T
        is_open = "longest" in needs and "max_length" in needs.get("open", ())
        most_tokens = longest(lengths, usual, needs["longest"]) if is_open else usual
        why = f": {fitted.reason}" if fitted.reason else ""
        sizes = ngrams_of_characters(data, needs, arguments)
        notes = [f"tokenizer {fitted.tokenizer}{why}.", describe_lengths(made._splitter.unit, lengths, most_tokens)]
        if sizes.get("character_ngrams") == 0 and arguments.get("character_ngrams") is None:
            notes.append(WITHOUT_CHARACTERS)
        choices = Choices(
            ({"max_length": most_tokens} if is_open else {}) | sizes,
            {"tokenizer": fitted.tokenizer},
            tuple(notes),
        )
        fixed = {"vocab_size": len(fitted.vocabulary) + FIRST_WORD, "max_length": most_tokens, **targets.arguments}
        made = dataclasses.replace(made, max_length=most_tokens, choices=choices)
        if not sizes.get("character_ngrams"):
            return made, fixed
        most_codes = characters_read(codes.max(initial=0), len(codes), most_tokens, data.memory_limit)
        return dataclasses.replace(made, reads_characters=True, most_characters=int(most_codes)), fixed

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """{"token_ids": (max_length,)}, and {"characters": (most_characters,)} if the model reads them."""
        return {**super().input_shapes, **({"characters": (self.most_characters,)} if self.reads_characters else {})}

    @property
    def _splitter(self) -> Tokenizer:
        return TOKENIZERS[self.tokenizer]

    @property
    def unknown(self) -> Unknown:  # type: ignore[override]  # it depends on the tokenizer
        """The number of the unknown token."""
        return Unknown("token_ids", UNKNOWN, self._splitter.advice, self._splitter.many_unknown)

    @property
    def described_inputs(self) -> dict[str, str]:
        """How tokens are numbered."""
        numbers = f"line numbers of `assets/{VOCABULARY_FILE}`, from 0"
        tokens = f"{numbers}; 0 is padding, 1 an unknown {self._splitter.unit}"
        codes = f"Unicode code points of the {self._splitter.unit}s, with a space before and after words; 0 is padding"
        return {"token_ids": tokens, **({"characters": codes} if self.reads_characters else {})}

    @property
    def limits(self) -> tuple[str, ...]:
        """How texts are split, how much of a text is used, and how unknown tokens are treated."""
        unit = self._splitter.unit
        return (
            f"Only the first {self.max_length:,} {unit}s of a text are used. The rest is silently ignored.",
            f"{self._splitter.rule} Before, texts are lower-cased, brought into Unicode's form NFC, and full-width and "
            "half-width forms are replaced, so clients send texts as they are.",
            *([f"Of their characters, the first {self.most_characters:,} are read."] if self.reads_characters else []),
            f"The model knows the {len(self.vocabulary):,} entries of `assets/{VOCABULARY_FILE}`. Any other {unit} becomes "
            f"the unknown {unit}. So does a text without {unit}s, and any bytes that are not UTF-8. No text is rejected.",
        )

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, list[str]]:
        """Returns texts of random known tokens."""
        found = random_texts(self.vocabulary, generator, count, self._splitter.separator)
        return {"text": [text.replace(MARK, " ") for text in found]}

    def __call__(self, raw: tf.Tensor) -> tf.Tensor:
        """Turns texts, string (batch,), into int32 (batch, tokens), padded to the longest text of the batch."""
        return self._numbers(checked_texts(raw), self.max_length)[0].to_tensor(PADDING)

    def lengths(self, examples: Tensors) -> tf.Tensor:
        """Returns the number of tokens of each example's whole text, int64 (batch,)."""
        return self._numbers(checked_texts(examples["text"]), None)[0].row_lengths()

    def _sizes(self, examples: Tensors) -> tf.Tensor:
        """Returns the number of tokens of each example's whole text, and at most how many code points the model reads, int64
        (batch, 2)."""
        numbers, parts = self._numbers(checked_texts(examples["text"]), None)
        letters = tf.reduce_sum(tf.strings.length(parts, unit="UTF8_CHAR"), axis=1)
        codes = tf.cast(letters, tf.int64) + parts.row_lengths() + 1  # with a space before and after every part
        return tf.stack([numbers.row_lengths(), codes], axis=1)

    def _numbers(self, texts: tf.Tensor, most: int | None) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """The numbers of the tokens of texts, ragged int32 (batch, at least 1), and the parts that the tokenizer split."""
        parts = filled(self._splitter.split(texts, most))
        if (find := self._splitter.find) is None:
            return parts.with_flat_values(tf.cast(self._table().lookup(parts.flat_values), tf.int32)), parts
        different, which = tf.unique(parts.flat_values)
        nested = parts.with_flat_values(tf.gather(find(different, self._table()), which))
        return nested.merge_dims(1, 2)[:, :most], parts

    def encode(self, examples: Tensors) -> Batch:
        """Turns `text` and the target into the model's inputs and target."""
        numbers, parts = self._numbers(checked_texts(examples["text"]), self.max_length)
        return self._inputs(numbers, parts), self.targets.encode(examples), {}

    def _inputs(self, numbers: tf.RaggedTensor, parts: tf.RaggedTensor) -> dict[str, tf.Tensor]:
        inputs = {"token_ids": numbers.to_tensor(PADDING)}
        if self.reads_characters:
            inputs["characters"] = self._splitter.code_points(parts, self.most_characters)
        return inputs

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns `text`, string (batch,), into the model's inputs, and `tokens`, string (batch, tokens)."""
        numbers, parts = self._numbers(checked_texts(requests["text"]), self.max_length)
        tokens = parts if self._splitter.find is None else numbers.with_flat_values(self._names(numbers.flat_values))
        return self._inputs(numbers, parts), {"tokens": tokens.to_tensor("")}

    def _names(self, numbers: tf.Tensor) -> tf.Tensor:
        """The tokens with these numbers."""
        with tf.init_scope():  # without it, each function of a SavedModel would have a copy
            names = tf.constant(["", "\ufffd", *self.vocabulary])
        return tf.gather(names, numbers)

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Removes the columns that are padding in every row, so that batches of short texts are fast."""
        found = {}
        for name, ids in inputs.items():
            used = tf.reduce_max(tf.reduce_sum(tf.cast(ids != PADDING, tf.int32), axis=1))
            found[name] = ids[:, :used]
        return found, targets, weights

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns texts of a data set as a client sends them."""
        return {"text": object_array([example["text"] for example in examples])}

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        most = {"most_characters": self.most_characters} if self.most_characters != MOST_CHARACTERS else {}
        characters = {"reads_characters": True, **most} if self.reads_characters else {}
        return {**super().config(), "tokenizer": self.tokenizer, **characters, **self.targets.described()}


def checked_texts(raw: tf.Tensor) -> tf.Tensor:
    """Returns a batch of texts as a tensor.

    Raises:
        UsageError: it is no string tensor of shape (batch,).
    """
    raw = tf.convert_to_tensor(raw)
    if raw.dtype != tf.string or raw.shape.rank != 1:
        raise UsageError(
            f"A text batch is {raw.dtype.name} of shape {raw.shape}; expected string (batch,). Pass a list."
        )
    return raw


def filled(found: tf.RaggedTensor) -> tf.RaggedTensor:
    """Returns the tokens of texts, ragged string (batch, tokens), with one empty token for a text without any."""
    empty = tf.cast(found.row_lengths() == 0, tf.int64)
    filler = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(empty)], ""), empty)
    return tf.concat([found, filler], axis=1)


def _earlier_tokens(data: RawData, earlier: TextPreprocessor) -> Fitted:
    """Returns the tokens of an earlier run.

    Raises:
        UsageError: the data set's option `tokenizer` names another.
    """
    given = data.arguments.get("tokenizer", "auto")
    if given not in ("auto", earlier.tokenizer):
        raise UsageError(
            f"tokenizer={given!r}; the weights of the earlier run belong to {earlier.tokenizer}. Leave tokenizer out, or "
            "train without these weights."
        )
    return Fitted(earlier.tokenizer, earlier.vocabulary, "as in the earlier run")
