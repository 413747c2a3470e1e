"""Translation: pairs of texts to token numbers and back in the graph, with core TensorFlow string ops only.

A text is split into chunks (a word with the space before it, a digit, a punctuation mark), and a chunk into the longest known
subword tokens from its start. Nothing is lower-cased or dropped, so translations keep case and spaces. Rare and new words are
split into several tokens, so no word is unknown. Only a character can be unknown.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from zoo import lookup
from zoo.datasets.preprocessing.base import Choices, Unknown, object_array, register_preprocessor
from zoo.datasets.preprocessing.pair_encoding import MARK, chunks, learn_pieces, longest_pieces
from zoo.datasets.preprocessing.text import random_texts, text_request
from zoo.datasets.preprocessing.token_fitting import describe_lengths, longest, measure
from zoo.errors import UsageError
from zoo.tasks import Request

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

PADDING, UNKNOWN, START, END = 0, 1, 2, 3  # the first two as in `pair_encoding`
FIRST_PIECE = 4
_SPECIAL = ("[PAD]", "[UNK]", "[START]", "[END]")


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class TranslationPreprocessor:
    """Texts and their translations to token numbers, int32 (batch, tokens), and token numbers to texts.

    0 is padding, 1 an unknown character, 2 the start of a target, 3 its end. Tokens are numbered from 4 by falling frequency.
    Control characters become spaces, and bytes that are not UTF-8 become U+FFFD. Everything else is kept. An empty text
    becomes one token, a space.

    Attributes:
        source_vocabulary: the known tokens of the texts.
        target_vocabulary: the known tokens of the translations.
        max_length: maximum number of tokens of a text. Longer texts are truncated; a truncated translation has no end token.

    Example:
        >>> p = TranslationPreprocessor(("\u2581Go", "."), ("\u2581Va", "\u2581!"), 9)
        >>> inputs, targets, _ = p.encode({"text": tf.constant(["Go."]), "translation": tf.constant(["Va !"])})
        >>> inputs["source_ids"].numpy().tolist(), inputs["target_ids"].numpy().tolist()
        ([[4, 5]], [[2, 4, 5]])
        >>> p.to_text(targets["translation"]).numpy().tolist()
        [b'Va !']
    """

    kind: ClassVar[str] = "translation"
    padding: ClassVar[float] = PADDING
    source_vocabulary: tuple[str, ...]
    target_vocabulary: tuple[str, ...]
    max_length: int
    choices: Choices = dataclasses.field(default=Choices(), compare=False, repr=False)
    _directory: Path | None = dataclasses.field(default=None, compare=False, repr=False)
    _tables: dict[str, tf.lookup.StaticHashTable] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("source_vocabulary", "target_vocabulary"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # it is a list if it was read from a file

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[TranslationPreprocessor, dict[str, Any]]:
        """Learns subword tokens from the training split, as many as fit in `source_vocab_size` and `target_vocab_size`.

        If `max_length` is open and the spec has `longest`, the lengths of the training texts choose it.

        Raises:
            UsageError: a size or length is too small or not a whole number.
        """
        sizes = {name: arguments.get(name, needs["vocab_size"]) for name in ("source_vocab_size", "target_vocab_size")}
        sizes["max_length"] = arguments.get("max_length", needs["max_length"])
        for name, value in sizes.items():
            least, usual = (3, needs["max_length"]) if name == "max_length" else (8, needs["vocab_size"])
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(
                    f"{name} is {value!r}; expected a whole number of at least {least}. Pass {name}={usual}."
                )
        known = getattr(needs.get("earlier"), "preprocessor", None)
        source, target = (known.source_vocabulary, known.target_vocabulary) if known else _learned(data, sizes)
        made = cls(tuple(source), tuple(target), sizes["max_length"])
        lengths, most = measure(data, made.lengths), sizes["max_length"]
        is_open = "longest" in needs and "max_length" in needs.get("open", ())
        most = longest(lengths, most, needs["longest"]) if is_open else most
        fixed = {
            "source_vocab_size": len(source) + FIRST_PIECE,
            "target_vocab_size": len(target) + FIRST_PIECE,
            "max_length": most,
        }
        note = describe_lengths("subword token", lengths, most)
        choices = Choices({"max_length": most} if is_open else {}, notes=(note,))
        return dataclasses.replace(made, max_length=most, choices=choices), fixed

    unknown: ClassVar[Unknown] = Unknown(
        "source_ids", UNKNOWN, "Pass a larger source_vocab_size, or training texts in the same letters."
    )

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of the longest model inputs, (max_length,) each."""
        return {"source_ids": (self.max_length,), "target_ids": (self.max_length,)}

    @property
    def requests(self) -> dict[str, Request]:
        """`text`: string (batch,), UTF-8."""
        return {"text": text_request("text")}

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, Any]:
        """Returns texts of random known tokens of the source, and random target tokens."""
        words = [piece.replace(MARK, "") for piece in self.source_vocabulary if piece != MARK]
        last = FIRST_PIECE + len(self.target_vocabulary)
        ids = generator.integers(FIRST_PIECE, last, (count, min(self.max_length, 12)), np.int32)
        return {"text": random_texts(words, generator, count), "target_ids": ids}

    @property
    def described_inputs(self) -> dict[str, str]:
        """The numbers that are no tokens of a text."""
        return dict.fromkeys(self.input_shapes, "token numbers; 0 is padding, 1 unknown, 2 the start, 3 the end")

    @property
    def limits(self) -> tuple[str, ...]:
        """How much of a text is used, and how unknown characters are treated."""
        return (
            f"Only the first {self.max_length:,} subword tokens of a text are used. The rest is silently ignored. A "
            "translation has no more tokens, either.",
            "A character that the training data did not have becomes an unknown token. No text is rejected: a text in "
            "another language gets a translation too, and a wrong one.",
        )

    def encode(self, examples: Tensors) -> Batch:
        """Turns `text` and `translation`, string (batch,), into a training batch.

        Returns:
            The inputs `source_ids` and `target_ids`, int32 (batch, tokens); `target_ids` begins with the start token. The
            target `translation`, int32 of the same shape: the next token after each input token, with the end token last.
            Its weights, float32 of the same shape, 0 on padding.
        """
        found = self._numbers(examples["translation"], "target", self.max_length)
        rows = tf.ones([found.nrows(), 1], tf.int32)
        inputs = tf.concat([START * rows, found], axis=1)[:, : self.max_length].to_tensor(PADDING)
        targets = tf.concat([found, END * rows], axis=1)[:, : self.max_length].to_tensor(PADDING)
        sources = self.serve(examples)[0]
        weights = tf.cast(targets != PADDING, tf.float32)
        return {**sources, "target_ids": inputs}, {"translation": targets}, {"translation": weights}

    def lengths(self, examples: Tensors) -> tf.Tensor:
        """Returns the number of tokens of the longer text of each pair without truncation, int64 (batch,)."""
        source, target = (
            self._numbers(examples[name], side, None).row_lengths()
            for name, side in (("text", "source"), ("translation", "target"))
        )
        return tf.maximum(source, target + 1)  # the end token

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns `text`, string (batch,), into {"source_ids": int32 (batch, tokens)}. There are no extras."""
        return {"source_ids": self._numbers(requests["text"], "source", self.max_length).to_tensor(PADDING)}, {}

    def to_text(self, ids: tf.Tensor) -> tf.Tensor:
        """Turns target token numbers, int (batch, tokens), into texts, string (batch,).

        Padding, start and end are skipped. An unknown token or an invalid number becomes U+FFFD.
        """
        found = self._table("pieces").lookup(tf.cast(ids, tf.int64))
        found = tf.where(ids >= FIRST_PIECE, found, tf.where(ids == UNKNOWN, "\ufffd", ""))
        text = tf.strings.regex_replace(tf.strings.reduce_join(found, axis=1), MARK, " ")
        return tf.strings.regex_replace(text, "^ ", "")

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Removes the columns that are padding in every row, separately for source and target."""
        used = {name: tf.reduce_max(tf.math.count_nonzero(ids, axis=1)) for name, ids in inputs.items()}
        trimmed = {name: ids[:, : used[name]] for name, ids in inputs.items()}
        return trimmed, *tf.nest.map_structure(lambda part: part[:, : used["target_ids"]], (targets, weights))

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns texts of a data set as a client sends them."""
        return {"text": object_array([_bytes(example["text"]) for example in examples])}

    def for_export(self, directory: Path) -> tuple[TranslationPreprocessor, list[Any]]:
        """Returns an equal preprocessor whose vocabularies are files in `directory`, and the objects to save with it."""
        for side, pieces in (("source", self.source_vocabulary), ("target", self.target_vocabulary)):
            text = "".join(f"{piece}\n" for piece in (*_SPECIAL, *pieces))
            (directory / f"{side}_vocabulary.txt").write_text(text, encoding="utf-8")
        served = dataclasses.replace(self, _directory=directory, _tables={})
        return served, [served._table("source"), served._table("pieces")]

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "source_vocabulary": list(self.source_vocabulary),
            "target_vocabulary": list(self.target_vocabulary),
            "max_length": self.max_length,
        }

    def _numbers(self, texts: tf.Tensor, side: str, most: int | None) -> tf.RaggedTensor:
        """Returns the first `most` token numbers of texts, ragged int32 (batch, 1 to most)."""
        texts = tf.convert_to_tensor(texts)
        if texts.dtype != tf.string or texts.shape.rank != 1:
            raise UsageError(
                f"A text batch is {texts.dtype.name} of shape {texts.shape}; expected string (batch,). Pass a list."
            )
        found = chunks(texts, most)
        different, which = tf.unique(found.flat_values)
        pieces = longest_pieces(different, self._table(side))
        nested = found.with_flat_values(tf.gather(pieces, which))
        return nested.merge_dims(1, 2)[:, :most]

    def _table(self, name: str) -> tf.lookup.StaticHashTable:
        """`source` and `target` map tokens to numbers, and `pieces` maps numbers to target tokens."""
        if name not in self._tables:
            side = "target" if name == "pieces" else name
            with tf.init_scope():  # needed if the first access is in a traced tf.data function
                if self._directory is None:
                    pieces = self.source_vocabulary if side == "source" else self.target_vocabulary
                    numbers = tf.range(FIRST_PIECE, FIRST_PIECE + len(pieces), dtype=tf.int64)
                    words = tf.constant(pieces, tf.string, shape=[len(pieces)])
                    both = (numbers, words, "\ufffd") if name == "pieces" else (words, numbers, UNKNOWN)
                    self._tables[name] = lookup.in_memory(*both)
                else:
                    file = self._directory / f"{side}_vocabulary.txt"
                    if name == "pieces":
                        self._tables[name] = lookup.lines_by_number(file, "\ufffd")
                    else:
                        self._tables[name] = lookup.numbers_of_lines(file, UNKNOWN)
        return self._tables[name]


def _learned(data: RawData, sizes: Mapping[str, int]) -> list[Sequence[str]]:
    """Returns the subword tokens of both sides, learned from the training split."""
    counts: dict[str, collections.Counter[bytes]] = {key: collections.Counter() for key in ("text", "translation")}
    for batch in data.train.batch(1024):
        for key, count in counts.items():
            count.update(chunks(batch[key]).flat_values.numpy().tolist())
    names = ("source_vocab_size", "target_vocab_size")
    return [
        learn_pieces(_decoded(count), sizes[name] - FIRST_PIECE)
        for name, count in zip(names, counts.values(), strict=True)
    ]


def _decoded(counts: Mapping[bytes, int]) -> dict[str, int]:
    return {chunk.decode(): count for chunk, count in counts.items()}


def _bytes(text: Any) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)
