"""Texts and pairs of texts to RoBERTa's inputs in the graph, with core TensorFlow ops only."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo.checkpoints.roberta import SPECIALS
from zoo.datasets.preprocessing.base import Choices, register_preprocessor
from zoo.datasets.preprocessing.byte_pairs import BytePairs
from zoo.datasets.preprocessing.targets import Targets
from zoo.datasets.preprocessing.text import random_texts
from zoo.datasets.preprocessing.token_fitting import describe_lengths, measure
from zoo.datasets.preprocessing.wordpiece import NAMES, EncoderTexts, check_batch, longest_first, same_size
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Tensors
    from zoo.datasets.raw import RawData

_SHORTEST = 4
"""The length of a pair of empty texts."""


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class ByteLevelPreprocessor(EncoderTexts):
    """Texts to token numbers as in `transformers`' RobertaTokenizer. No text is unknown.

    A text becomes `<s> text </s>`. A pair becomes `<s> text </s></s> text_pair </s>`. Rows are truncated at the end to
    `max_length`; in a pair, the longer text is truncated first. A batch is padded to its longest row.

    Attributes:
        merges: as in `BytePairs`.
        numbers: the model's number of every byte, every pair, and every token of `zoo.checkpoints.roberta.SPECIALS`.
        max_length: maximum number of tokens of a row, including the special ones.
        add_prefix_space: whether a text begins with a space.
        stripping: the special tokens that take the white space before them.
        has_pairs: whether the data has a second text, `text_pair`.
        targets: makes the model's targets.

    Example:
        >>> p = ByteLevelPreprocessor((), tuple(range(5, 261)) + (0, 1, 2, 3, 4), 8)
        >>> p(tf.constant(["hi", ""]))["token_ids"].numpy().tolist()
        [[0, 76, 77, 2], [0, 2, 1, 1]]
    """

    merges: tuple[tuple[int, int], ...]
    numbers: tuple[int, ...]
    max_length: int
    add_prefix_space: bool = False
    stripping: tuple[str, ...] = ()
    has_pairs: bool = False
    targets: Targets = dataclasses.field(default_factory=Targets)
    choices: Choices = dataclasses.field(default=Choices(), compare=False, repr=False)
    _served: BytePairs | None = dataclasses.field(default=None, compare=False, repr=False)

    kind: ClassVar[str] = "byte_level_text"
    padding: ClassVar[float] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "merges", tuple(tuple(pair) for pair in self.merges))  # lists if read from a file
        object.__setattr__(self, "numbers", tuple(self.numbers))
        object.__setattr__(self, "stripping", tuple(self.stripping))
        object.__setattr__(self, "targets", Targets.restored(self.targets))
        if isinstance(self.max_length, bool) or not isinstance(self.max_length, int) or self.max_length < _SHORTEST:
            raise UsageError(
                f"max_length is {self.max_length!r}; expected a whole number of at least {_SHORTEST}. Pass 128, say."
            )
        if len(self.numbers) != self._own.size or len({*self.numbers}) < len(self.numbers) or min(self.numbers) < 0:
            raise UsageError(
                f"There are {len({*self.numbers}):,} numbers of tokens; expected {self._own.size:,} different ones. Pass the "
                "tokens of a RoBERTa."
            )

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[Self, dict[str, Any]]:
        """Takes the tokens of the checkpoint or of an earlier run. The maximum length is the builder's `max_length`, but at
        most the number of positions in the checkpoint."""
        checkpoint: Any = needs.get("checkpoint")
        earlier: Any = needs.get("earlier")
        sizes = checkpoint.arguments() if checkpoint else earlier.build["arguments"]
        longest = min(sizes["max_length"], arguments.get("max_length", needs["max_length"]))
        names = ("merges", "numbers", "add_prefix_space", "stripping")
        tokens = (
            {name: getattr(earlier.preprocessor, name) for name in names} if earlier else checkpoint.preprocessing()
        )
        targets = Targets.fit(data, needs.get("quantiles", ()))
        made = cls(**tokens, max_length=longest, has_pairs="text_pair" in data.features, targets=targets)
        if max(made.numbers) >= sizes["vocab_size"]:
            raise UsageError(
                f"The tokens have numbers up to {max(made.numbers):,}; the model has embeddings for {sizes['vocab_size']:,}. "
                "Pass files that belong together."
            )
        fixed = {"vocab_size": sizes["vocab_size"], "max_length": longest, **targets.arguments}
        note = describe_lengths("subword token", measure(data, made.lengths), longest)
        return dataclasses.replace(made, choices=Choices(notes=(note,))), fixed

    @functools.cached_property
    def _own(self) -> BytePairs:
        return BytePairs(self.merges, "words", SPECIALS, tuple(self.stripping))

    @property
    def tokens(self) -> BytePairs:
        """The tokens, by their own numbers."""
        return self._served or self._own

    def _special(self, name: str) -> int:
        return self.numbers[self._own.size - len(SPECIALS) + SPECIALS.index(name)]

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, list[str]]:
        """Returns texts of random tokens."""
        pieces = [text for piece in self.tokens.pieces if (text := piece.decode("utf-8", "ignore")).isprintable()]
        return {name: random_texts([p for p in pieces if p], generator, count, "") for name in self.requests}

    @property
    def described_inputs(self) -> dict[str, str]:
        """How tokens are numbered, and what the other inputs mark."""
        return dict(zip(NAMES, ("the model's numbers of the tokens", "0", "1 on tokens, 0 on padding"), strict=True))

    @property
    def limits(self) -> tuple[str, ...]:
        """How much of a text is used, and which special tokens are recognised."""
        room = self.max_length - (4 if self.has_pairs else 2)
        one = f"Only the first {room:,} subword tokens of a text are used. The rest is silently ignored."
        two = f"Only {room:,} subword tokens of a pair are used. The longer text is truncated first."
        return (
            two if self.has_pairs else one,
            "No text is rejected. Bytes that are not UTF-8 become U+FFFD.",
            f"{', '.join(f'`{token}`' for token in SPECIALS)} in a text are special tokens, not words, as in the original "
            "tokenizer of the model. Remove them from texts that come from other people.",
        )

    def __call__(self, texts: tf.Tensor, pairs: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Turns texts, or pairs of texts, string (batch,), into `token_ids`, `token_type_ids`, which are 0, and
        `padding_mask` (1 on tokens), int32 (batch, tokens), padded to the longest row of the batch."""
        given = [check_batch(batch) for batch in ([texts] if pairs is None else [texts, pairs])]
        given = given if pairs is None else same_size(given)
        rows = [self._numbers(batch) for batch in given]
        if pairs is None:
            kept = [rows[0][:, : self.max_length - 2]]
        else:
            first, second = (tf.cast(row.row_lengths(), tf.int32) for row in rows)
            sizes = longest_first(first, second, self.max_length - 4)
            kept = [_first(row, size) for row, size in zip(rows, sizes, strict=True)]
        count = kept[0].nrows()
        begin, end = (tf.fill([count, 1], self._special(name)) for name in ("<s>", "</s>"))
        joined = tf.concat([begin, kept[0], end, *([end, kept[1], end] if pairs is not None else [])], axis=1)
        ids = joined.to_tensor(self._special("<pad>"))
        mask = tf.sequence_mask(joined.row_lengths(), tf.shape(ids)[1], tf.int32)
        return dict(zip(NAMES, (ids, tf.zeros_like(ids), mask), strict=True))

    def _numbers(self, texts: tf.Tensor) -> tf.RaggedTensor:
        if self.add_prefix_space:
            has = tf.strings.regex_full_match(texts, r"(?s)\s.*")
            texts = tf.where(has, texts, tf.strings.join([" ", texts]))
        found = self.tokens.encode(texts)
        return found.with_flat_values(tf.gather(tf.constant(self.numbers, tf.int32), found.flat_values))

    def lengths(self, examples: Tensors) -> tf.Tensor:
        """Returns the number of tokens of each example without truncation, special tokens included, int32 (batch,)."""
        names = [name for name in self.requests if name in examples]
        found = [tf.cast(self.tokens.encode(check_batch(examples[name])).row_lengths(), tf.int32) for name in names]
        return tf.add_n(found) + 2 * len(names)

    def for_export(self, directory: Path) -> tuple[Self, list[Any]]:
        """Returns an equal preprocessor whose tokens are files in `directory`, and the objects to save with it."""
        tokens, tables = self._own.for_export(directory)
        return dataclasses.replace(self, _served=tokens), tables

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"merges": [list(pair) for pair in self.merges], "numbers": list(self.numbers)}
        own |= {name: getattr(self, name) for name in ("max_length", "add_prefix_space", "has_pairs")}
        own["stripping"] = list(self.stripping)
        return {**own, **self.targets.described()}


def _first(rows: tf.RaggedTensor, sizes: tf.Tensor) -> tf.RaggedTensor:
    """Returns the first `sizes` tokens, int32 (batch,), of every row."""
    column = tf.ragged.range(rows.row_lengths())
    return tf.ragged.boolean_mask(rows, column < tf.cast(sizes, tf.int64)[:, tf.newaxis])
