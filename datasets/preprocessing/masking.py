"""Masks in texts, for training and serving masked language models, with core TensorFlow ops only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo import lookup
from zoo.checkpoints.wordpiece_files import SPECIAL_TOKENS, VOCABULARY_FILE
from zoo.datasets.preprocessing.base import register_preprocessor
from zoo.datasets.preprocessing.subwords import CONTINUES
from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor
from zoo.errors import UsageError
from zoo.hashes import scrambled

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors

BLANK = "[MASK]"
CHOSEN, HIDDEN, REPLACED = 0.15, 0.8, 0.1
"""Share of a text's tokens to predict; of those, the share that becomes a mask, and the share of random tokens."""
_NO_KEY = (0, 0)


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class MaskedTextPreprocessor(WordPiecePreprocessor):
    """Texts with masks: BERT's inputs, the positions of the masks, and the tokens to predict there.

    For training, 15 % of a text's tokens are chosen, at least one, and never a special token. Of those 80 % become `[MASK]`,
    10 % a random token, and 10 % stay, as in Devlin et al. For evaluation the choice depends only on the text, so that
    scores are comparable. `redraw` chooses again.

    A batch is `token_ids`, `token_type_ids`, `padding_mask`, int32 (batch, tokens), and `positions`, int32 (batch, masks).
    The target `pieces` has the token at each position, int32 (batch, masks), with the weight 1. Rows with fewer masks are
    padded with position 0, that of `[CLS]`, and weight 0.

    Attributes:
        vocabulary: the tokens in the order of their numbers, including `[MASK]`.

    Example:
        >>> vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world")
        >>> inputs, extras = MaskedTextPreprocessor(vocabulary, 8).serve({"text": tf.constant(["Hello [MASK]"])})
        >>> inputs["token_ids"].numpy().tolist(), inputs["positions"].numpy().tolist()
        ([[2, 5, 4, 3]], [[2]])
    """

    _pieces_of: list[tf.lookup.StaticHashTable] = dataclasses.field(default_factory=list, compare=False, repr=False)

    kind: ClassVar[str] = "masked_text"

    def __post_init__(self) -> None:
        super().__post_init__()
        if BLANK not in self.vocabulary:
            raise UsageError(f"The vocabulary has no {BLANK} token. Pass the vocabulary of a BERT model.")
        if len(self.vocabulary) == len(self.never_asked):
            raise UsageError("The vocabulary has special tokens only. Pass one with subword tokens.")

    @property
    def never_asked(self) -> list[int]:
        """The numbers of the special tokens."""
        return [number for number, piece in enumerate(self.vocabulary) if piece in SPECIAL_TOKENS]

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of the longest model inputs by name."""
        return {**super().input_shapes, "positions": (max(1, round(CHOSEN * self.max_length)),)}

    @property
    def limits(self) -> tuple[str, ...]:
        """How much of a text is used, and what a mask stands for."""
        return (
            *super().limits,
            f"`{BLANK}` stands for one subword token: a word of two tokens needs two masks in a row.",
        )

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, list[str]]:
        """Returns texts of random known tokens with a mask at the end."""
        texts = super().generated(generator, count)["text"]
        return {"text": [f"{text} {BLANK}" for text in texts]}

    def encode(self, examples: Tensors) -> Batch:
        """Turns `text` into model inputs, targets and weights. The masks depend only on the text."""
        return self._masked(self(examples["text"]), tf.constant(_NO_KEY, tf.int64))

    def redraw(self, inputs: Tensors, targets: Tensors, weights: Tensors, key: tf.Tensor) -> Batch:
        """Chooses the masks of a batch again. They depend only on the texts and on the key, int64 (2,)."""
        return self._masked(self.restore(inputs, targets), key)

    def restore(self, inputs: Tensors, targets: Tensors) -> dict[str, tf.Tensor]:
        """Returns BERT's inputs without masks, from a batch of `encode` or `redraw`."""
        ids = _replaced(inputs["token_ids"], inputs["positions"], targets["pieces"])
        return {**{name: part for name, part in inputs.items() if name != "positions"}, "token_ids": ids}

    def _masked(self, inputs: Tensors, key: tf.Tensor) -> Batch:
        ids = inputs["token_ids"]
        special = tf.constant([number in self.never_asked for number in range(len(self.vocabulary))])
        eligible = ~tf.gather(special, ids) & (inputs["padding_mask"] != 0)
        count = tf.reduce_sum(tf.cast(eligible, tf.int32), axis=1)
        chosen = tf.cast(tf.round(CHOSEN * tf.cast(count, tf.float32)), tf.int32)
        chosen = tf.minimum(tf.maximum(chosen, 1), count)
        draw = self._draws(ids, inputs["padding_mask"], key)
        order = tf.where(eligible, tf.cast(draw(0), tf.int64), tf.constant(2**32, tf.int64))
        positions, real = _first(order, chosen)
        targets = tf.gather(ids, positions, batch_dims=1)
        chance = tf.gather(tf.cast(draw(1), tf.float64) / 2**32, positions, batch_dims=1)
        ordinary = tf.constant([n for n in range(len(self.vocabulary)) if n not in self.never_asked], tf.int32)
        other = tf.gather(ordinary, tf.cast(tf.cast(draw(2), tf.int64) % tf.size(ordinary, tf.int64), tf.int32))
        shown = tf.where(chance < HIDDEN, self.vocabulary.index(BLANK), tf.gather(other, positions, batch_dims=1))
        shown = tf.where(real & (chance < HIDDEN + REPLACED), shown, targets)
        masked = {**inputs, "token_ids": _replaced(ids, positions, shown), "positions": positions}
        return masked, {"pieces": targets}, {"pieces": tf.cast(real, tf.float32)}

    @staticmethod
    def _draws(ids: tf.Tensor, mask: tf.Tensor, key: tf.Tensor) -> Any:
        """Returns a function from a number to random uint32 (batch, tokens). They depend only on each text, the key and the
        number, and neither on padding nor on other rows."""
        odd = tf.constant(0x9E3779B1, tf.uint32)
        column = tf.range(tf.shape(ids)[1], dtype=tf.int32)[tf.newaxis]
        place = tf.cast(column, tf.uint32) * odd
        seed = scrambled(scrambled(tf.cast(key[0], tf.uint32)) + tf.cast(key[1], tf.uint32))
        each = scrambled(scrambled(tf.cast(ids, tf.uint32) + seed) + place) * tf.cast(mask, tf.uint32)
        text = scrambled(tf.reduce_sum(each, axis=1, keepdims=True))
        return lambda number: scrambled(scrambled(text + place) + tf.constant(number, tf.uint32) * odd)

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Removes the columns of texts and of masks that are padding in every row."""
        positions = inputs["positions"]
        texts, _, _ = super().trim({k: v for k, v in inputs.items() if k != "positions"}, targets, weights)
        used = tf.maximum(1, tf.reduce_max(tf.math.count_nonzero(weights["pieces"], axis=1, dtype=tf.int32)))
        cut = tf.nest.map_structure(lambda part: part[:, :used], (targets, weights))
        return {**texts, "positions": positions[:, :used]}, *cut

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns `text`, string (batch,), into model inputs. The extras are `lengths`, int32 (batch,), the token numbers
        `ids`, and `blanks`, whether a position is a real mask."""
        inputs = self(requests["text"])
        ids = inputs["token_ids"]
        blank = (ids == self.vocabulary.index(BLANK)) & (inputs["padding_mask"] != 0)
        column = tf.zeros_like(ids) + tf.range(tf.shape(ids)[1])
        order = tf.where(blank, tf.cast(column, tf.int64), tf.constant(2**32, tf.int64))
        positions, real = _first(order, tf.reduce_sum(tf.cast(blank, tf.int32), axis=1))
        lengths = tf.reduce_sum(inputs["padding_mask"], axis=1)
        extras = {"lengths": lengths, "ids": ids, "positions": positions, "blanks": real}
        return {**inputs, "positions": positions}, extras

    def fill(self, probabilities: tf.Tensor, extras: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Replaces every mask by the most probable token.

        Args:
            probabilities: float32 (batch, masks, vocabulary).
            extras: the extras from `serve`.

        Returns:
            `pieces`, string (batch, tokens), empty on padding; `probability`, float32 of the same shape, 1 on given tokens
            and 0 on padding; and `text`, string (batch,), the joined tokens.
        """
        positions, real = extras["positions"], extras["blanks"]
        best = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        ids = _replaced(
            extras["ids"], positions, tf.where(real, best, tf.gather(extras["ids"], positions, batch_dims=1))
        )
        sure = tf.where(real, tf.reduce_max(probabilities, axis=-1), 1.0)
        probability = _replaced(tf.ones_like(ids, tf.float32), positions, sure)[:, 1:-1]
        inside = tf.sequence_mask(extras["lengths"] - 2, tf.shape(probability)[1])  # without [CLS] and [SEP]
        pieces = tf.where(inside, self._piece_table().lookup(tf.cast(ids[:, 1:-1], tf.int64)), "")
        text = tf.strings.reduce_join(pieces, axis=1, separator=" ")
        text = tf.strings.strip(tf.strings.regex_replace(text, f" {CONTINUES}", ""))
        return {"pieces": pieces, "probability": tf.where(inside, probability, 0.0), "text": text}

    def _piece_table(self) -> tf.lookup.StaticHashTable:
        if not self._pieces_of:
            with tf.init_scope():
                if self._file is None:
                    numbers = tf.range(len(self.vocabulary), dtype=tf.int64)
                    self._pieces_of.append(lookup.in_memory(numbers, tf.constant(self.vocabulary, tf.string), ""))
                else:
                    self._pieces_of.append(lookup.lines_by_number(self._file, ""))
        return self._pieces_of[0]

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns texts as a client sends them, with a mask in place of the middle word."""
        requests = np.empty(len(examples), object)
        for row, example in enumerate(examples):
            words = example["text"].split(b" ")
            words[len(words) // 2] = BLANK.encode()
            requests[row] = b" ".join(words)
        return {"text": requests}

    def for_export(self, directory: Path) -> tuple[Self, list[Any]]:
        """Returns an equal preprocessor whose vocabulary is a file in `directory`, and the objects to save with it."""
        served, resources = super().for_export(directory)
        served = dataclasses.replace(served, _pieces_of=[])
        assert served._file == directory / VOCABULARY_FILE
        return served, [*resources, served._piece_table()]


def _first(order: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The columns of the `counts` smallest numbers of each row, int32 (batch, masks), and which columns are real."""
    most = tf.maximum(1, tf.reduce_max(tf.concat([counts, [0]], axis=0)))
    real = tf.sequence_mask(counts, most)
    return tf.where(real, tf.argsort(order, axis=1, stable=True)[:, :most], 0), real


def _replaced(rows: tf.Tensor, positions: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Rows (batch, tokens) with values (batch, masks) at positions. Duplicate positions must have the same value."""
    batch = tf.zeros_like(positions) + tf.range(tf.shape(positions)[0])[:, tf.newaxis]
    return tf.tensor_scatter_nd_update(rows, tf.stack([batch, positions], axis=-1), values)
