"""WordPiece: texts and pairs of texts to BERT's inputs in the graph, with core TensorFlow ops only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo import lookup
from zoo.checkpoints.wordpiece_files import (
    CONTINUES,
    SPECIAL_TOKENS,
    VOCABULARY_FILE,
    Rules,
    check_pieces,
    read_pieces,
    read_vocabulary,
    write_pieces,
)
from zoo.datasets.preprocessing.base import Choices, Unknown, object_array, register_preprocessor
from zoo.datasets.preprocessing.bert_text import Words
from zoo.datasets.preprocessing.subwords import MOST_CHARACTERS, match
from zoo.datasets.preprocessing.targets import Targets
from zoo.datasets.preprocessing.text import random_texts, text_request, vocabulary_sizes
from zoo.datasets.preprocessing.token_fitting import describe_lengths, measure
from zoo.datasets.preprocessing.vocabularies import texts_of, train_pieces
from zoo.errors import UsageError
from zoo.tasks import Request

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

NAMES = ("token_ids", "token_type_ids", "padding_mask")
_ADVICE = "Check that the vocabulary and its rules for splitting belong to these texts, or pass a larger vocab_size."
_DESCRIBED = (
    f"line numbers of `assets/{VOCABULARY_FILE}`, from 0",
    "1 on the tokens of the second text, else 0",
    "1 on tokens, 0 on padding",
)
_SHORTEST = 3
"""`[CLS]` and two `[SEP]`: the length of a pair of empty texts."""


class Tables:
    """The tables of a graph: the vocabulary's table and the tables of characters.

    Args:
        vocabulary: the tokens in the order of their numbers.
        rules: rules for splitting texts into words.
        file: the vocabulary file that the table reads; None for a table in memory.
    """

    def __init__(self, vocabulary: Sequence[str], rules: Rules, file: Path | None) -> None:
        with tf.init_scope():  # needed if the first access is in a traced tf.data function
            if file is None:
                numbers = tf.range(len(vocabulary), dtype=tf.int64)
                self.pieces = lookup.in_memory(tf.constant(vocabulary, tf.string), numbers, -1)
            else:
                self.pieces = lookup.numbers_of_lines(file, -1)
        self.words = Words(rules, [token for token in SPECIAL_TOKENS if token in vocabulary])


class EncoderTexts:
    """What preprocessors of texts, or pairs of texts, for an encoder share."""

    max_length: int
    has_pairs: bool
    targets: Targets

    if TYPE_CHECKING:

        def __call__(self, texts: tf.Tensor, pairs: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
            """Turns texts, or pairs of texts, into the encoder's inputs."""

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of the longest model inputs by name, (max_length,) each."""
        return dict.fromkeys(NAMES, (self.max_length,))

    @property
    def requests(self) -> dict[str, Request]:
        """`text`, string (batch,), UTF-8; for pairs also `text_pair`, of the same form."""
        names = ("text", "text_pair") if self.has_pairs else ("text",)
        return {name: text_request(name) for name in names}

    def encode(self, examples: Tensors) -> Batch:
        """Turns `text`, the optional `text_pair`, and the target into model inputs and targets."""
        return self(examples["text"], examples.get("text_pair")), self.targets.encode(examples), {}

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns `text`, or `text` and `text_pair`, string (batch,), into model inputs, and `lengths`, int32 (batch,)."""
        inputs = self(requests["text"], requests.get("text_pair"))
        return inputs, {"lengths": tf.reduce_sum(inputs["padding_mask"], axis=1)}

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Removes the columns that are padding in every row, so that batches of short texts are fast."""
        used = tf.reduce_max(tf.reduce_sum(inputs["padding_mask"], axis=1))
        return {name: part[:, :used] for name, part in inputs.items()}, targets, weights

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns texts of a data set as a client sends them."""
        return {name: object_array([example[name] for example in examples]) for name in self.requests}


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class WordPiecePreprocessor(EncoderTexts):
    """Texts to token numbers as in `transformers`' BertTokenizer, with core TensorFlow ops only.

    A text becomes `[CLS] text [SEP]`. A pair becomes `[CLS] text [SEP] text_pair [SEP]`, with token type 1 in the second
    half. Rows are truncated at the end to `max_length`; in a pair, the longer text is truncated first. A batch is padded to
    its longest row.

    Attributes:
        vocabulary: the tokens in the order of their numbers.
        max_length: maximum number of tokens of a row, including `[CLS]` and `[SEP]`.
        lower_case: whether text is lower-cased.
        strip_accents: whether accents are removed; None means the same as `lower_case`.
        split_chinese: whether every Chinese character is a word.
        has_pairs: whether the data has a second text, `text_pair`.
        targets: makes the model's targets.

    Example:
        >>> vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "##s", "!")
        >>> WordPiecePreprocessor(vocabulary, 8)(["Hello, worlds!", ""])["token_ids"].numpy().tolist()
        [[2, 4, 1, 5, 6, 7, 3], [2, 3, 0, 0, 0, 0, 0]]
    """

    vocabulary: tuple[str, ...]
    max_length: int
    lower_case: bool = True
    strip_accents: bool | None = None
    split_chinese: bool = True
    has_pairs: bool = False
    targets: Targets = dataclasses.field(default_factory=Targets)
    choices: Choices = dataclasses.field(default=Choices(), compare=False, repr=False)
    _file: Path | None = dataclasses.field(default=None, compare=False, repr=False)
    _tables: list[Tables] = dataclasses.field(default_factory=list, compare=False, repr=False)

    kind: ClassVar[str] = "wordpiece"
    padding: ClassVar[float] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))  # it is a list if it was read from a file
        object.__setattr__(self, "targets", Targets.restored(self.targets))
        check_pieces(self.vocabulary, "The vocabulary")
        if isinstance(self.max_length, bool) or not isinstance(self.max_length, int) or self.max_length < _SHORTEST:
            raise UsageError(
                f"max_length is {self.max_length!r}; expected a whole number of at least {_SHORTEST}. Pass 128, say."
            )

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[Self, dict[str, Any]]:
        """Reads the vocabulary from the builder's `vocabulary` or from the checkpoint, or trains one on the training split.

        The maximum length is the builder's `max_length`, but at most the number of positions in the checkpoint.
        """
        checkpoint, given = needs.get("checkpoint"), arguments.get("vocabulary")
        size, longest = vocabulary_sizes(needs, arguments)
        sizes = checkpoint.arguments() if checkpoint else {}
        longest = min(sizes.get("max_length", longest), longest)
        vocabulary, rules = _vocabulary(data, given, checkpoint, needs, size)
        sizes = needs["earlier"].build["arguments"] if needs.get("earlier") else sizes
        room = sizes.get("vocab_size", len(vocabulary))
        if checkpoint is not None and len(vocabulary) > room:
            raise UsageError(
                f"{given or checkpoint.path} has {len(vocabulary):,} tokens in its vocabulary; {checkpoint.path} has "
                f"embeddings for {room:,}. Pass files that belong together."
            )
        targets = Targets.fit(data, needs.get("quantiles", ()))
        fixed = {"vocab_size": room, "max_length": longest, **targets.arguments}
        made = cls(tuple(vocabulary), longest, has_pairs="text_pair" in data.features, targets=targets, **rules)
        note = describe_lengths("subword token", measure(data, made.lengths), longest)
        return dataclasses.replace(made, choices=Choices(notes=(note,))), fixed

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, list[str]]:
        """Returns texts of random known tokens, each as a word of its own."""
        words = [piece for piece in self.vocabulary if piece.isalnum()] or ["a"]
        return {name: random_texts(words, generator, count) for name in self.requests}

    @property
    def described_inputs(self) -> dict[str, str]:
        """How tokens are numbered, and what the other inputs mark."""
        return dict(zip(NAMES, _DESCRIBED, strict=True))

    @property
    def unknown(self) -> Unknown:
        """The token [UNK]."""
        advice = (
            "Check that the vocabulary and its rules for splitting belong to these texts, or pass a larger vocab_size."
        )
        return Unknown("token_ids", self.vocabulary.index(SPECIAL_TOKENS[1]), advice)

    @property
    def limits(self) -> tuple[str, ...]:
        """How much of a text is used, how unknown words are treated, and which special tokens are recognised."""
        special = ", ".join(f"`{token}`" for token in SPECIAL_TOKENS if token in self.vocabulary)
        longest = (
            f"Only the first {self.max_length - 2:,} subword tokens of a text are used. The rest is silently ignored."
        )
        if self.has_pairs:
            longest = (
                f"Only {self.max_length - 3:,} subword tokens of a pair are used. The longer text is truncated first."
            )
        return (
            longest,
            f"Words are split into the {len(self.vocabulary):,} tokens of `assets/{VOCABULARY_FILE}`. A word that cannot be "
            f"split, or that has more than {MOST_CHARACTERS} characters, is unknown. Bytes that are not UTF-8 are removed. "
            "No text is rejected.",
            f"{special} in a text are special tokens, not words, as in the original tokenizer of the model. "
            "Remove them from texts that come from other people.",
        )

    @property
    def _rules(self) -> Rules:
        return Rules(self.lower_case, self.strip_accents, self.split_chinese)

    def _table(self) -> Tables:
        if not self._tables:
            self._tables.append(Tables(self.vocabulary, self._rules, self._file))
        return self._tables[0]

    def __call__(self, texts: tf.Tensor, pairs: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Turns texts, or pairs of texts, into BERT's inputs.

        Args:
            texts: string (batch,), UTF-8.
            pairs: the second texts, string (batch,).

        Returns:
            `token_ids`, `token_type_ids` (1 on second texts) and `padding_mask` (1 on tokens), int32 (batch, tokens),
            padded to the longest row of the batch.
        """
        checked = [check_batch(batch) for batch in ([texts] if pairs is None else [texts, pairs])]
        room = self.max_length - 1 - len(checked)
        # Words beyond the maximum length cannot change the tokens before them, so a single text is split only that far. In
        # a pair, the lengths of both texts decide where each is truncated.
        if pairs is not None:
            checked = same_size(checked)
        both = tf.concat(checked, axis=0)
        pieces, counts, owners = self.pieces(both, room if pairs is None else -1)
        lengths = tf.math.unsorted_segment_sum(counts, owners, tf.size(both))
        starts = tf.cumsum(lengths, exclusive=True)
        if pairs is None:
            return arrange(self.vocabulary, pieces, [starts], [tf.minimum(lengths, room)])
        first, second = tf.split(lengths, 2)
        return arrange(self.vocabulary, pieces, tf.split(starts, 2), longest_first(first, second, room))

    def pieces(self, texts: tf.Tensor, most_words: int = -1) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Splits texts into tokens.

        Args:
            texts: string (batch,), UTF-8.
            most_words: maximum number of words to split off; the rest is treated as one more word. -1 splits off all.

        Returns:
            The numbers of all tokens in order, int32 (tokens,); the number of tokens of each word, int32 (words,); and the
            number of the text of each word, int64 (words,).

        Example:
            >>> preprocessor = WordPiecePreprocessor(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##b"), 8)
            >>> [part.numpy().tolist() for part in preprocessor.pieces(tf.constant(["ab x", "a"]))]
            [[4, 5, 1, 4], [2, 1, 1], [0, 0, 1]]
        """
        tables = self._table()
        words, owners = tables.words(texts, most_words)
        plain = [piece.removeprefix(CONTINUES) for piece in self.vocabulary]
        # A vocabulary may have longer words than the reference looks up.
        unused = [len(piece) > MOST_CHARACTERS for piece in plain]

        def lookup(keys: tf.Tensor) -> tf.Tensor:
            found = tf.cast(tables.pieces.lookup(keys), tf.int32)
            return (
                tf.where(tf.gather([*unused, True], tf.where(found < 0, len(unused), found)), -1, found)
                if any(unused)
                else found
            )

        longest = max(len(piece.encode()) for piece, skip in zip(plain, unused, strict=True) if not skip)
        numbers, counts = match(words, lookup, self.vocabulary.index(SPECIAL_TOKENS[1]), longest)
        return numbers, counts, owners

    def lengths(self, examples: Tensors) -> tf.Tensor:
        """Returns the number of tokens of each example without truncation, special tokens included, int32 (batch,)."""
        # A request may take a second text that examples lack: data of single texts trains a model that compares two.
        texts = [check_batch(examples[name]) for name in self.requests if name in examples]
        _, counts, owners = self.pieces(tf.concat(texts, axis=0))
        found = tf.math.unsorted_segment_sum(counts, owners, len(texts) * tf.size(texts[0]))
        return tf.reduce_sum(tf.reshape(found, [len(texts), -1]), axis=0) + 1 + len(texts)

    def for_export(self, directory: Path) -> tuple[Self, list[Any]]:
        """Returns an equal preprocessor whose vocabulary is `vocab.txt` in `directory`, and the objects to save with it."""
        file = directory / VOCABULARY_FILE
        write_pieces(self.vocabulary, file)
        served = dataclasses.replace(self, _file=file, _tables=[])
        return served, [served._table().pieces]

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("max_length", "lower_case", "strip_accents", "split_chinese", "has_pairs")
        own = {"vocabulary": list(self.vocabulary), **{name: getattr(self, name) for name in names}}
        return {**own, **self.targets.described()}


def _vocabulary(
    data: RawData, given: Any, checkpoint: Any, needs: Mapping[str, Any], size: int
) -> tuple[Sequence[str], dict[str, Any]]:
    """Returns the tokens, and the rules for splitting texts into words as arguments of the preprocessor."""
    if (earlier := needs.get("earlier")) is not None:
        kept = earlier.preprocessor
        return kept.vocabulary, {rule.name: getattr(kept, rule.name) for rule in dataclasses.fields(Rules)}
    if given is None and checkpoint is not None:
        rules: dict[str, Any] = checkpoint.preprocessing()
        if "vocabulary" not in rules:
            raise UsageError(f"{checkpoint.path} has no vocabulary. Pass its vocab.txt as vocabulary.")
        return rules.pop("vocabulary"), rules
    if given is not None and not Path(given).is_file():
        found = read_vocabulary(given)
        return found.pieces, dataclasses.asdict(found.rules)
    rules = {rule.name: needs.get(rule.name, rule.default) for rule in dataclasses.fields(Rules)}
    return read_pieces(given) if given is not None else train_pieces(texts_of(data), size, Rules(**rules)), rules


def check_batch(raw: tf.Tensor) -> tf.Tensor:
    """Returns a batch of texts as a tensor; raises UsageError for anything else."""
    raw = tf.convert_to_tensor(raw)
    if raw.dtype != tf.string or raw.shape.rank != 1:
        raise UsageError(
            f"A text batch is {raw.dtype.name} of shape {raw.shape}; expected string (batch,). Pass a list."
        )
    return raw


def same_size(texts: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns batches of texts after checking in the graph that they have the same size."""
    sizes = [tf.size(batch) for batch in texts]
    alike = tf.debugging.assert_equal(*sizes, message="text and text_pair are batches of different sizes.")
    with tf.control_dependencies([alike] if alike is not None else []):
        return [tf.identity(batch) for batch in texts]


def longest_first(first: tf.Tensor, second: tf.Tensor, room: int) -> list[tf.Tensor]:
    """Returns the numbers of tokens to keep of both texts. The longer one is truncated first, until both have half of the
    room."""
    shorter, longer = tf.minimum(first, second), tf.maximum(first, second)
    kept_shorter = tf.minimum(shorter, room // 2)
    kept_longer = tf.minimum(longer, room - kept_shorter)
    swapped = first > second
    return [tf.where(swapped, kept_longer, kept_shorter), tf.where(swapped, kept_shorter, kept_longer)]


def arrange(
    vocabulary: Sequence[str], pieces: tf.Tensor, starts: Sequence[tf.Tensor], lengths: Sequence[tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Returns rows of `[CLS]`, the tokens of one or two texts, each followed by `[SEP]`, and padding.

    Args:
        vocabulary: the tokens in the order of their numbers.
        pieces: the numbers of the tokens of all texts.
        starts: for the first and the second texts, the place of each text's first token among `pieces`.
        lengths: how many of its tokens are used.
    """
    pad, _, begin, end = (vocabulary.index(token) for token in SPECIAL_TOKENS[:4])
    pieces = tf.concat([pieces, [end]], axis=0)  # so that the index after the last token is valid
    used = tf.add_n(list(lengths)) + 1 + len(lengths)
    column = tf.range(tf.reduce_max(tf.concat([used, [0]], axis=0)))[tf.newaxis]
    ids = tf.fill([tf.size(used), tf.size(column)], pad)
    types = tf.zeros([tf.size(used), tf.size(column)], tf.int32)
    at = tf.ones_like(used)[:, tf.newaxis]
    last = tf.size(pieces) - 1
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        start, length = start[:, tf.newaxis], length[:, tf.newaxis]
        inside = (column >= at) & (column < at + length)
        ids = tf.where(inside, tf.gather(pieces, tf.clip_by_value(start + column - at, 0, last)), ids)
        ids = tf.where(column == at + length, end, ids)
        if number:
            types = tf.cast((column >= at) & (column <= at + length), tf.int32)
        at += length + 1
    ids = tf.where(column == 0, begin, ids)
    return dict(zip(NAMES, (ids, types, tf.cast(column < used[:, tf.newaxis], tf.int32)), strict=True))
