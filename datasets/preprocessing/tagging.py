"""Tagging: sentences to words or characters, these to numbers, with core TensorFlow string ops only."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo import lookup
from zoo.datasets.batches import rectangular
from zoo.datasets.preprocessing.base import Choices, Unknown, object_array, register_preprocessor
from zoo.datasets.preprocessing.tagged_tokens import SPLITTERS, Splitter, found_share, splitter_of
from zoo.datasets.preprocessing.text import (
    FIRST_WORD,
    PADDING,
    UNKNOWN,
    VOCABULARY_FILE,
    VocabularyPreprocessor,
    check_vocabulary,
    vocabulary_sizes,
)
from zoo.datasets.preprocessing.word_forms import NUM_PARTS, clean, forms, parts
from zoo.errors import UsageError, printable
from zoo.scores import word_spans

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

_MIN_COUNT = 2
"""Words that occur once in training count as unknown, so that the model learns from the forms of unknown words."""
_MIN_FORM_COUNT = 3
_MANY_UNKNOWN = 0.6
"""The share of unknown words above which a warning is given, for a model that also reads the parts of words. In languages
with many forms of a word, such as German, 40% are usual, and their last letters say enough."""
_SAMPLE = 256
_FEWEST_SAME = 0.5
"""If the tokenizer finds fewer of the data's words, the served model would tag other words than those it was trained on."""
FORMS_FILE = "forms.txt"


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class TaggingPreprocessor(VocabularyPreprocessor):
    """Words to numbers, int32 (batch, words): 0 is padding, 1 a word with unknown form.

    A word is looked up as it is written, then in lower case, then by its form: whether it begins with a capital, is all
    capitals, holds a digit, a hyphen or no letter at all, together with its last 3, 2, 1 or 0 letters. The forms are
    learned from words that occur once in training. A text without words becomes one unknown word. Words after the first
    `max_length` are ignored.

    For a model with an input `form_ids`, int32 (batch, words, `NUM_PARTS`), every word also has the numbers of its parts,
    known or not: its signs, itself in lower case, and its first and last letters.

    Attributes:
        vocabulary: the known words and forms; only forms begin with a space.
        max_length: maximum number of words of a sentence.
        form_vocabulary: the known parts of words, in the order of their numbers from 2; empty for a model without that input.
        tokenizer: what the words are, `words` or `characters`, see `SPLITTERS`.

    Example:
        >>> preprocess = TaggingPreprocessor(("dogs", "n't", " C:"), max_length=9)
        >>> inputs, extras = preprocess.serve({"text": ["Don't bark, Dogs"]})
        >>> inputs["token_ids"].numpy().tolist(), extras["tokens"].numpy().tolist()
        ([[4, 3, 1, 1, 2]], [[b'Do', b"n't", b'bark', b',', b'Dogs']])
    """

    form_vocabulary: tuple[str, ...] = ()
    tokenizer: str = "words"
    _form_tables: list[tf.lookup.StaticHashTable] = dataclasses.field(default_factory=list, compare=False, repr=False)

    kind: ClassVar[str] = "tagging"
    padding: ClassVar[float] = PADDING

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(
            self, "form_vocabulary", tuple(self.form_vocabulary)
        )  # it is a list if it was read from a file

    @property
    def splitter(self) -> Splitter:
        """Splits texts into what has a tag."""
        return SPLITTERS[self.tokenizer]

    @property
    def choices(self) -> Choices:
        """What has a tag, for config.yaml."""
        return Choices(options={"tokenizer": self.tokenizer})

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """{"token_ids": (max_length,)}, and for models with that input {"form_ids": (max_length, NUM_PARTS)}."""
        shapes: dict[str, tuple[int | None, ...]] = super().input_shapes
        return shapes | ({"form_ids": (self.max_length, NUM_PARTS)} if self.form_vocabulary else {})

    @property
    def unknown(self) -> Unknown:  # type: ignore[override]  # it depends on the inputs
        """The number of a word that is unknown, and so is its form."""
        usual = super().unknown
        return usual._replace(many=_MANY_UNKNOWN) if self.form_vocabulary else usual

    @property
    def described_inputs(self) -> dict[str, str]:
        """How words and their parts are numbered."""
        parts = f"line numbers of `assets/{FORMS_FILE}`, from 0, for the parts of each word; 0 is padding, 1 an unknown part"
        return super().described_inputs | ({"form_ids": parts} if self.form_vocabulary else {})

    @property
    def limits(self) -> tuple[str, ...]:
        """How much of a sentence is used, and how unknown words are treated."""
        unit = self.splitter.unit
        return (
            f"{self.splitter.rule} Only the first {self.max_length:,} {unit}s of a text are used. The rest is silently "
            "ignored.",
            f"The model knows the {len(self.vocabulary):,} {unit}s and forms of `assets/{VOCABULARY_FILE}`, in the language "
            f"of its data. An unknown {unit} is represented by its form: capitals, digits, hyphens, last letters. No text is "
            "rejected.",
        )

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[TaggingPreprocessor, dict[str, Any]]:
        """Selects the most frequent words and forms of the training split, as many as fit in `vocab_size`."""
        most, longest = vocabulary_sizes(needs, arguments)
        counts: collections.Counter[bytes] = collections.Counter()
        for batch in data.train.map(lambda example: example["tokens"]).padded_batch(1024, [None]):
            counts.update(clean(tf.reshape(batch, [-1])).numpy().tolist())
        del counts[b""]
        sample = list(data.train.take(_SAMPLE).as_numpy_iterator())
        earlier = needs.get("earlier")
        if earlier:
            vocabulary, known = earlier.preprocessor.vocabulary, earlier.preprocessor.form_vocabulary
        else:
            vocabulary = _most_frequent(counts)[: most - FIRST_WORD]
            known = _most_frequent_parts(counts)[: most - FIRST_WORD] if needs.get("reads_forms") else ()
        check_vocabulary(data.name, vocabulary, len(counts))
        made = cls(vocabulary, longest, form_vocabulary=known, tokenizer=splitter_of(data))
        check_words(data.name, sample, made.tokenizer)
        sizes = {"form_vocab_size": len(known) + FIRST_WORD} if known else {}
        return made, {"vocab_size": len(vocabulary) + FIRST_WORD, **sizes}

    def numbers(self, words: tf.Tensor) -> tf.Tensor:
        """Turns words, string of any shape, into int32 of the same shape. No word gets the number of padding."""
        different, which = tf.unique(tf.reshape(words, [-1]))
        cleaned = clean(different)
        found = tf.fill(tf.shape(cleaned), tf.constant(UNKNOWN, tf.int64))
        for key in (cleaned, tf.strings.lower(cleaned, encoding="utf-8"), *forms(cleaned)):
            found = tf.where(found == UNKNOWN, self._table().lookup(key), found)
        return tf.reshape(tf.gather(tf.cast(found, tf.int32), which), tf.shape(words))

    def encode(self, examples: Tensors) -> Batch:
        """Turns `tokens` and `tags` of a raw batch into `token_ids`, `tags` and their weights, each (batch, words).

        The words are those of the data set, to which the tags belong. The tokenizer is not used.
        """
        tokens = tf.convert_to_tensor(examples["tokens"])[:, : self.max_length]
        tags = tf.convert_to_tensor(examples["tags"])[:, : self.max_length]
        empty = [[0, 0], [0, tf.maximum(1 - tf.shape(tokens)[1], 0)]]
        tokens, tags = tf.pad(tokens, empty), tf.pad(tags, empty)
        inputs = self._padded(tokens, lengths_of(tokens))
        weights = tf.sequence_mask(lengths_of(tokens, least=0), tf.shape(tokens)[1], dtype=tf.float32)
        return inputs, {"tags": tags}, {"tags": weights}

    def _padded(self, tokens: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        real = tf.sequence_mask(lengths, tf.shape(tokens)[1])
        inputs = {"token_ids": tf.where(real, self.numbers(tokens), PADDING)}
        if self.form_vocabulary:
            inputs["form_ids"] = tf.where(real[..., tf.newaxis], self.part_numbers(tokens), PADDING)
        return inputs

    def part_numbers(self, words: tf.Tensor) -> tf.Tensor:
        """Turns words, string of any shape, into the numbers of their parts, int32 with one more axis of `NUM_PARTS`."""
        different, which = tf.unique(tf.reshape(words, [-1]))
        found = tf.cast(self._form_table().lookup(tf.stack(parts(clean(different)), axis=1)), tf.int32)
        return tf.reshape(tf.gather(found, which), tf.concat([tf.shape(words), [NUM_PARTS]], axis=0))

    def _form_table(self) -> tf.lookup.StaticHashTable:
        if not self._form_tables:
            with tf.init_scope():  # needed if the first access is in a traced tf.data function
                numbers = tf.range(FIRST_WORD, FIRST_WORD + len(self.form_vocabulary), dtype=tf.int64)
                words = tf.constant(self.form_vocabulary, tf.string)
                self._form_tables.append(lookup.in_memory(words, numbers, UNKNOWN))
        return self._form_tables[0]

    def for_export(self, directory: Path) -> tuple[Self, list[Any]]:
        """Returns an equal preprocessor whose vocabularies are files in `directory`, and the objects to save with it."""
        served, resources = super().for_export(directory)
        if self.form_vocabulary:
            file = directory / FORMS_FILE
            lines = ("[PAD]", "[UNK]", *self.form_vocabulary)
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            # Lines 0 and 1 of the file are padding and the unknown part, so a part's number is its line's.
            table = lookup.numbers_of_lines(file, UNKNOWN)
            served, resources = dataclasses.replace(served, _form_tables=[table]), [*resources, table]
        return served, resources

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        forms = {"form_vocabulary": list(self.form_vocabulary)} if self.form_vocabulary else {}
        return super().config() | forms | recorded(self.tokenizer)

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns `text` into `token_ids`, with `tokens`, string (batch, words), `lengths`, int32 (batch,), and `text`."""
        texts = tf.convert_to_tensor(requests["text"])
        if texts.dtype != tf.string or texts.shape.rank != 1:
            raise UsageError(
                f"A text batch is {texts.dtype.name} of shape {texts.shape}; expected string (batch,). Pass a list."
            )
        found = self.splitter.split(texts, self.max_length)
        lengths = tf.cast(tf.maximum(found.row_lengths(), 1), tf.int32)
        tokens = found.to_tensor("", shape=[None, None])
        tokens = tf.pad(tokens, [[0, 0], [0, tf.maximum(1 - tf.shape(tokens)[1], 0)]])
        return self._padded(tokens, lengths), {"tokens": tokens, "lengths": lengths, "text": texts}

    def places(self, texts: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns where the words of texts are, see `Splitter`."""
        return self.splitter.places(texts, tokens)

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Removes the columns that are padding in every row, so that batches of short sentences are fast."""
        used = tf.reduce_max(tf.reduce_sum(tf.cast(inputs["token_ids"] != PADDING, tf.int32), axis=1))
        return tf.nest.map_structure(lambda part: part[:, :used], (inputs, targets, weights))

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns sentences as a client sends them, see `sentences_of`."""
        return {"text": sentences_of(examples, self.tokenizer)}

    def to_targets(self, examples: Sequence[Mapping[str, Any]], *, lost: bool) -> dict[str, np.ndarray]:
        """Returns the tags of the words that the served tokenizer finds in the requests, see `tags_of`."""
        texts = tf.constant(sentences_of(examples, self.tokenizer).tolist())
        found = self.splitter.split(texts, self.max_length).to_list()
        return tags_of(found, examples, most=self.max_length, lost=lost)


def recorded(tokenizer: str) -> dict[str, str]:
    """Returns {"tokenizer": its name} for a preprocessor's configuration; {} for words, which older runs do not name."""
    return {"tokenizer": tokenizer} if tokenizer != "words" else {}


def sentences_of(examples: Sequence[Mapping[str, Any]], tokenizer: str) -> np.ndarray:
    """Returns sentences as a client sends them: their texts, or their joined words if a data set has no texts."""
    join = SPLITTERS[tokenizer].join
    return object_array([example.get("text") or join(example["tokens"]) for example in examples])


def tags_of(
    found: Sequence[Sequence[bytes]], examples: Sequence[Mapping[str, Any]], *, most: int | None, lost: bool
) -> dict[str, np.ndarray]:
    """Returns the tags of the words that a tokenizer finds in the requests, by their places in the text.

    Args:
        found: the words of each request.
        examples: raw examples.
        most: words of a sentence that a model tags; None for all.
        lost: whether the tags of words that it does not find follow those of the last word.

    Returns:
        `tags`, int64 (examples, words), -1 on padding and on words that the data does not have.

    Example:
        >>> examples = [{"tokens": [b"well-known", b"dogs"], "tags": [5, 7]}]
        >>> tags_of([[b"well", b"-", b"known", b"dogs"]], examples, most=9, lost=True)["tags"].tolist()
        [[-1, -1, -1, 7, 5]]
    """
    rows = []
    for given, example in zip(found, examples, strict=True):
        words, tags = (example[name][:most] for name in ("tokens", "tags"))
        known = dict(zip(word_spans(words), tags, strict=True))
        row = [known.pop(span, -1) for span in word_spans(given)] or [-1]
        rows.append(np.array([*row, *(known.values() if lost else ())], np.int64))
    return {"tags": rectangular(rows)}


def check_words(name: str, examples: Sequence[Mapping[str, Any]], tokenizer: str) -> None:
    """Raises UsageError if the tokenizer splits the texts of examples into other words than those that have tags."""
    share, shown = found_share(examples, sentences_of(examples, tokenizer).tolist(), tokenizer)
    if share < _FEWEST_SAME:
        raise UsageError(
            f"Of the words of data set {name!r}, {share:.0%} are words of the tokenizer that the served model has, "
            f"{tokenizer}: {printable(shown[0])!r} of the data is {printable(shown[1])!r} there. Use data whose words are "
            "split like that, as English treebanks do, or pass --data.tokenizer characters, for languages without spaces."
        )


def lengths_of(tokens: tf.Tensor, least: int = 1) -> tf.Tensor:
    """Counts the words of each row up to the last non-empty word, int32 (batch,)."""
    positions = tf.range(1, tf.shape(tokens)[1] + 1)
    return tf.maximum(tf.reduce_max(tf.where(tokens != "", positions, 0), axis=1), least)


def _most_frequent(counts: collections.Counter[bytes]) -> tuple[str, ...]:
    """The words and forms for the look-up of training words, the most frequent first.

    A word that is too rare for one stage of the look-up is counted in the next stage, as in serving.
    """
    kept = collections.Counter({word: n for word, n in counts.items() if n >= _MIN_COUNT})
    rest = [(word, n) for word, n in counts.items() if word not in kept]
    words = tf.constant([word for word, _ in rest], tf.string)
    numbers = [n for _, n in rest]
    for i, keys in enumerate((tf.strings.lower(words, encoding="utf-8"), *forms(words))):
        found = keys.numpy().tolist()
        stage: collections.Counter[bytes] = collections.Counter()
        for key, n in zip(found, numbers, strict=True):
            stage[key] += n if key not in kept else 0
        least = _MIN_COUNT if i == 0 else _MIN_FORM_COUNT
        kept.update({key: n for key, n in stage.items() if n >= least})
        # Words that this stage found are done: 0 excludes them from later stages.
        numbers = [0 if key in kept else n for key, n in zip(found, numbers, strict=True)]
    return tuple(key.decode() for key, _ in sorted(kept.items(), key=lambda item: (-item[1], item[0])))


def _most_frequent_parts(counts: collections.Counter[bytes]) -> tuple[str, ...]:
    """The parts of words that occur often enough in training, the most frequent first."""
    words = list(counts)
    found: collections.Counter[bytes] = collections.Counter()
    for column in parts(tf.constant(words, tf.string)):
        for part, word in zip(column.numpy().tolist(), words, strict=True):
            found[part] += counts[word]
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return tuple(part.decode() for part, count in ranked if count >= _MIN_FORM_COUNT)
