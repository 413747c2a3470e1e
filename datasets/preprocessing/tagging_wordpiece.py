"""Tagging with BERT: the subword tokens of words, and the position of the first token of each word."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo.checkpoints.wordpiece_files import SPECIAL_TOKENS
from zoo.datasets.preprocessing.base import register_preprocessor
from zoo.datasets.preprocessing.tagged_tokens import SPLITTERS, splitter_of
from zoo.datasets.preprocessing.tagging import check_words, lengths_of, recorded, sentences_of, tags_of
from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor, arrange, check_batch

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

_SAMPLE = 256
_POSITIONS = "word_positions"


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class TaggingWordPiecePreprocessor(WordPiecePreprocessor):
    """Sentences to BERT's inputs, with the position of each word's first subword token, which gets the word's tag.

    A sentence becomes `[CLS] tokens of its words [SEP]`. Words whose first token does not fit into `max_length` are left out.
    A word without any token, such as a lone variation selector, becomes `[UNK]`. Raw texts are split by `tokenizer`, one
    of `SPLITTERS`.

    Example:
        >>> vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "##s", "!")
        >>> inputs, extras = TaggingWordPiecePreprocessor(vocabulary, 8).serve({"text": tf.constant(["Hello worlds!"])})
        >>> inputs["token_ids"].numpy().tolist(), inputs["word_positions"].numpy().tolist()
        ([[2, 4, 5, 6, 7, 3]], [[1, 2, 4]])
    """

    tokenizer: str = "words"

    kind: ClassVar[str] = "tagging_wordpiece"

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[Self, dict[str, Any]]:
        """As for texts; also checks that the served tokenizer finds the words of the data.

        Raises:
            UsageError: as for texts, or it splits the data's texts into other words.
        """
        made, fixed = super().for_model(data, needs, arguments)
        tokenizer = splitter_of(data)
        check_words(data.name, list(data.train.take(_SAMPLE).as_numpy_iterator()), tokenizer)
        options = {**made.choices.options, "tokenizer": tokenizer}
        return dataclasses.replace(made, tokenizer=tokenizer, choices=made.choices._replace(options=options)), fixed

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().config() | recorded(self.tokenizer)

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of the longest model inputs by name, (max_length,) each."""
        return {**super().input_shapes, _POSITIONS: (self.max_length,)}

    @property
    def described_inputs(self) -> dict[str, str]:
        """How tokens are numbered, and what the other inputs mark."""
        return {**super().described_inputs, _POSITIONS: "the position of the first token of each word, 0 on padding"}

    @property
    def limits(self) -> tuple[str, ...]:
        """How much of a sentence is used, and how words are split."""
        splitter = SPLITTERS[self.tokenizer]
        cut = f"A {splitter.unit} whose first subword token is beyond the last one that is used has no tag."
        return (f"{splitter.rule} {cut}", *super().limits)

    def encode(self, examples: Tensors) -> Batch:
        """Turns `tokens` and `tags` of a raw batch into the model's inputs, and `tags` with weights, each (batch, words).

        The words are those of the data set, to which the tags belong. The tokenizer of texts is not used.
        """
        tokens = tf.convert_to_tensor(examples["tokens"])
        tags = tf.convert_to_tensor(examples["tags"])
        empty = [[0, 0], [0, tf.maximum(1 - tf.shape(tokens)[1], 0)]]
        tokens, tags = tf.pad(tokens, empty), tf.pad(tags, empty)
        inputs, kept = self._inputs(tokens, lengths_of(tokens))
        weights = tf.sequence_mask(tf.minimum(kept, lengths_of(tokens, least=0)), tf.shape(tokens)[1], dtype=tf.float32)
        return inputs, {"tags": tags}, {"tags": weights}

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns `text`, string (batch,), into the model's inputs, with `tokens`, string (batch, words), `lengths`, int32
        (batch,), and `text`."""
        texts = check_batch(requests["text"])
        tokens = SPLITTERS[self.tokenizer].split(texts, self.max_length - 2).to_tensor("", shape=[None, None])
        tokens = tf.pad(tokens, [[0, 0], [0, tf.maximum(1 - tf.shape(tokens)[1], 0)]])
        inputs, kept = self._inputs(tokens, lengths_of(tokens))
        most = tf.reduce_max(tf.concat([kept, [1]], axis=0))
        inputs[_POSITIONS] = inputs[_POSITIONS][:, :most]
        tokens = tf.where(tf.sequence_mask(kept, most), tokens[:, :most], "")
        return inputs, {"tokens": tokens, "lengths": kept, "text": texts}

    def lengths(self, examples: Tensors) -> tf.Tensor:
        """Returns the number of tokens of each sentence without truncation, special tokens included, int32 (batch,)."""
        tokens = tf.convert_to_tensor(examples["tokens"])
        real = tf.sequence_mask(lengths_of(tokens, least=0), tf.shape(tokens)[1])
        _, per_word = self._split_words(tf.boolean_mask(tokens, real))
        rows = tf.cast(tf.where(real)[:, 0], tf.int32)
        return tf.math.unsorted_segment_sum(per_word, rows, tf.shape(tokens)[0]) + 2

    def _split_words(self, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the tokens of words, string (words,), and how many each has, at least one."""
        numbers, counts, owners = self.pieces(words)
        per_word = tf.math.unsorted_segment_sum(counts, owners, tf.size(words))
        unknown = self.vocabulary.index(SPECIAL_TOKENS[1])
        empty = tf.cast(per_word == 0, tf.int32)
        found, fill = (
            tf.RaggedTensor.from_row_lengths(values, sizes, validate=False)
            for values, sizes in ((numbers, per_word), (tf.fill([tf.reduce_sum(empty)], unknown), empty))
        )
        return tf.concat([found, fill], axis=1).flat_values, per_word + empty

    def _inputs(self, tokens: tf.Tensor, lengths: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Returns the model's inputs for words, string (batch, words), and how many words of each row they hold."""
        real = tf.sequence_mask(lengths, tf.shape(tokens)[1])
        rows, room = tf.cast(tf.where(real)[:, 0], tf.int32), self.max_length - 2
        pieces, per_word = self._split_words(tf.boolean_mask(tokens, real))
        per_text = tf.math.unsorted_segment_sum(per_word, rows, tf.size(lengths))
        starts = tf.cumsum(per_text, exclusive=True)
        inputs = arrange(self.vocabulary, pieces, [starts], [tf.minimum(per_text, room)])
        before = tf.cumsum(per_word, exclusive=True) - tf.gather(starts, rows)
        positions = tf.scatter_nd(tf.where(real), tf.where(before < room, before + 1, 0), tf.shape(real, tf.int64))
        return {**inputs, _POSITIONS: positions}, tf.reduce_sum(tf.cast(positions > 0, tf.int32), axis=1)

    def places(self, texts: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns where the words of texts are, see `Splitter`."""
        return SPLITTERS[self.tokenizer].places(texts, tokens)

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Removes the columns that are padding in every row, so that batches of short sentences are fast."""
        used = tf.reduce_max(tf.reduce_sum(inputs["padding_mask"], axis=1))
        most = tf.reduce_max(tf.reduce_sum(tf.cast(inputs[_POSITIONS] > 0, tf.int32), axis=1))
        cut = {name: part[:, : most if name == _POSITIONS else used] for name, part in inputs.items()}
        return (cut, *tf.nest.map_structure(lambda part: part[:, :most], (targets, weights)))

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns sentences as a client sends them, see `sentences_of`."""
        return {"text": sentences_of(examples, self.tokenizer)}

    def to_targets(self, examples: Sequence[Mapping[str, Any]], *, lost: bool) -> dict[str, np.ndarray]:
        """Returns the tags of the words that a served model finds in the requests, see `tags_of`."""
        extras = self.serve({"text": tf.constant(sentences_of(examples, self.tokenizer).tolist())})[1]
        found = [row[:size] for row, size in zip(extras["tokens"].numpy(), extras["lengths"].numpy(), strict=True)]
        return tags_of(found, examples, most=None, lost=lost)
