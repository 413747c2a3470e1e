"""Tagging: sentences to words by the rules of English treebanks, words to numbers, with core TensorFlow string ops only."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo import lookup
from zoo.datasets.batches import rectangular
from zoo.datasets.preprocessing.base import object_array, register_preprocessor
from zoo.datasets.preprocessing.text import (
    FIRST_WORD,
    PADDING,
    UNKNOWN,
    VOCABULARY_FILE,
    VocabularyPreprocessor,
    check_vocabulary,
    vocabulary_sizes,
)
from zoo.errors import UsageError, printable
from zoo.scores import word_spans

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

_MIN_COUNT = 2
"""Words that occur once in training count as unknown, so that the model learns from the forms of unknown words."""
_MIN_FORM_COUNT = 3
_SAMPLE = 256
_FEWEST_SAME = 0.5
"""If the tokenizer finds fewer of the data's words, the served model would tag other words than those it was trained on."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
"""Letters and marks of Thai, Lao, Burmese, Khmer, Chinese and Japanese, which have no spaces between words."""
_SUFFIXES = (3, 2, 1, 0)
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

    Example:
        >>> preprocess = TaggingPreprocessor(("dogs", "n't", " C:"), max_length=9)
        >>> inputs, extras = preprocess.serve({"text": ["Don't bark, Dogs"]})
        >>> inputs["token_ids"].numpy().tolist(), extras["tokens"].numpy().tolist()
        ([[4, 3, 1, 1, 2]], [[b'Do', b"n't", b'bark', b',', b'Dogs']])
    """

    form_vocabulary: tuple[str, ...] = ()
    _form_tables: list[tf.lookup.StaticHashTable] = dataclasses.field(default_factory=list, compare=False, repr=False)

    kind: ClassVar[str] = "tagging"
    padding: ClassVar[float] = PADDING

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(
            self, "form_vocabulary", tuple(self.form_vocabulary)
        )  # it is a list if it was read from a file

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """{"token_ids": (max_length,)}, and for models with that input {"form_ids": (max_length, NUM_PARTS)}."""
        shapes: dict[str, tuple[int | None, ...]] = super().input_shapes
        return shapes | ({"form_ids": (self.max_length, NUM_PARTS)} if self.form_vocabulary else {})

    @property
    def described_inputs(self) -> dict[str, str]:
        """How words and their parts are numbered."""
        parts = f"line numbers of `assets/{FORMS_FILE}`, from 0, for the parts of each word; 0 is padding, 1 an unknown part"
        return super().described_inputs | ({"form_ids": parts} if self.form_vocabulary else {})

    @property
    def limits(self) -> tuple[str, ...]:
        """How much of a sentence is used, and how unknown words are treated."""
        return (
            f"Only the first {self.max_length:,} words of a sentence are used, and the first {LONGEST} bytes of a part "
            "without spaces. The rest is silently ignored.",
            f"The model knows the {len(self.vocabulary):,} words and forms of `assets/{VOCABULARY_FILE}`, in the language of "
            "its data. An unknown word is represented by its form: capitals, digits, hyphens, last letters. No text is "
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
            counts.update(_clean(tf.reshape(batch, [-1])).numpy().tolist())
        del counts[b""]
        sample = list(data.train.take(_SAMPLE).as_numpy_iterator())
        earlier = needs.get("earlier")
        if earlier:
            vocabulary, forms = earlier.preprocessor.vocabulary, earlier.preprocessor.form_vocabulary
        else:
            vocabulary = _most_frequent(counts)[: most - FIRST_WORD]
            forms = _most_frequent_parts(counts)[: most - FIRST_WORD] if needs.get("reads_forms") else ()
        check_vocabulary(data.name, vocabulary, len(counts))
        made = cls(vocabulary, longest, form_vocabulary=forms)
        _check_words(data.name, sample, made.to_requests(sample)["text"].tolist())
        sizes = {"form_vocab_size": len(forms) + FIRST_WORD} if forms else {}
        return made, {"vocab_size": len(vocabulary) + FIRST_WORD, **sizes}

    def numbers(self, words: tf.Tensor) -> tf.Tensor:
        """Turns words, string of any shape, into int32 of the same shape. No word gets the number of padding."""
        different, which = tf.unique(tf.reshape(words, [-1]))
        clean = _clean(different)
        found = tf.fill(tf.shape(clean), tf.constant(UNKNOWN, tf.int64))
        for key in (clean, tf.strings.lower(clean, encoding="utf-8"), *forms(clean)):
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
        inputs = self._padded(tokens, _lengths(tokens))
        weights = tf.sequence_mask(_lengths(tokens, least=0), tf.shape(tokens)[1], dtype=tf.float32)
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
        found = tf.cast(self._form_table().lookup(tf.stack(parts(_clean(different)), axis=1)), tf.int32)
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
        return super().config() | ({"form_vocabulary": list(self.form_vocabulary)} if self.form_vocabulary else {})

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns `text` into `token_ids`, with `tokens`, string (batch, words), `lengths`, int32 (batch,), and `text`."""
        texts = tf.convert_to_tensor(requests["text"])
        if texts.dtype != tf.string or texts.shape.rank != 1:
            raise UsageError(
                f"A text batch is {texts.dtype.name} of shape {texts.shape}; expected string (batch,). Pass a list."
            )
        found = tokenize(texts, self.max_length)
        lengths = tf.cast(tf.maximum(found.row_lengths(), 1), tf.int32)
        tokens = found.to_tensor("", shape=[None, None])
        tokens = tf.pad(tokens, [[0, 0], [0, tf.maximum(1 - tf.shape(tokens)[1], 0)]])
        return self._padded(tokens, lengths), {"tokens": tokens, "lengths": lengths, "text": texts}

    def places(self, texts: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns where the words of texts are, see `places_of`."""
        return places_of(texts, tokens)

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Removes the columns that are padding in every row, so that batches of short sentences are fast."""
        used = tf.reduce_max(tf.reduce_sum(tf.cast(inputs["token_ids"] != PADDING, tf.int32), axis=1))
        return tf.nest.map_structure(lambda part: part[:, :used], (inputs, targets, weights))

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Returns sentences as a client sends them. If a data set has only words, they are joined with spaces, except
        between letters of scripts that are written without them."""
        joined = (e["text"] or _joined(e["tokens"]) if "text" in e else _joined(e["tokens"]) for e in examples)
        return {"text": object_array([*joined])}

    def to_targets(self, examples: Sequence[Mapping[str, Any]], *, lost: bool) -> dict[str, np.ndarray]:
        """Returns the tags of the words that the served tokenizer finds in the requests, by their places in the text.

        Args:
            examples: raw examples.
            lost: whether the tags of words that it does not find follow those of the last word.

        Returns:
            `tags`, int64 (examples, words), -1 on padding and on words that the data does not have.

        Example:
            >>> examples = [{"tokens": [b"well-known", b"dogs"], "tags": [5, 7]}]
            >>> TaggingPreprocessor(("dogs",), max_length=9).to_targets(examples, lost=True)["tags"].tolist()
            [[-1, -1, -1, 7, 5]]
        """
        texts = self.to_requests(examples)["text"].tolist()
        rows = []
        for found, example in zip(tokenize(tf.constant(texts), self.max_length).to_list(), examples, strict=True):
            words, tags = (example[name][: self.max_length] for name in ("tokens", "tags"))
            known = dict(zip(word_spans(words), tags, strict=True))
            row = [known.pop(span, -1) for span in word_spans(found)] or [-1]
            rows.append(np.array([*row, *(known.values() if lost else ())], np.int64))
        return {"tags": rectangular(rows)}


def _joined(tokens: Sequence[bytes]) -> bytes:
    words = [word for token in tokens if (word := token.decode("utf-8", "replace"))]
    gaps = ["" if _UNSPACED.match(a[-1]) and _UNSPACED.match(b[0]) else " " for a, b in itertools.pairwise(words)]
    return "".join(itertools.chain(*zip(words, [*gaps, ""], strict=True))).encode("utf-8", "replace")


def _check_words(name: str, examples: Sequence[Mapping[str, Any]], texts: Sequence[bytes]) -> None:
    """Raises UsageError if the tokenizer splits the texts of a data set into other words than those that have tags."""
    most = max([1, *map(len, texts)])  # no text has more tokens than bytes
    found = tokenize(tf.constant(texts, tf.string), most).to_list()
    known = [[token for token in e["tokens"] if token] for e in examples]
    same = [len({*word_spans(a)} & {*word_spans(b)}) for a, b in zip(found, known, strict=True)]
    share = sum(same) / max(1, sum(map(len, known)))
    if share < _FEWEST_SAME:
        worst = min(range(len(known)), key=lambda i: same[i] / max(1, len(known[i])))
        shown = [" ".join(w.decode("utf-8", "replace") for w in part[worst][:8]) for part in (known, found)]
        raise UsageError(
            f"Of the words of data set {name!r}, {share:.0%} are words of the tokenizer that the served model has, which "
            f"follows English treebanks: {printable(shown[0])!r} of the data is {printable(shown[1])!r} there. Use data "
            "whose words are split like that; other languages and tokenizations cannot be served."
        )


def forms(words: tf.Tensor) -> list[tf.Tensor]:
    """Returns the forms of clean words, string of any shape, with the last 3, 2, 1 and 0 letters. Digits become 0.

    Example:
        >>> [form.numpy()[0].decode() for form in forms(tf.constant(["Re-reading7"]))]
        [' CD-:ng0', ' CD-:g0', ' CD-:0', ' CD-:']
    """
    flags, lower = _signs(words), _letters(words)
    return [
        tf.strings.join([" ", *flags, ":", tf.strings.regex_replace(lower, rf"^.*(.{{{n}}})$", r"\1")])
        for n in _SUFFIXES
    ]


NUM_PARTS = 8


def parts(words: tf.Tensor) -> list[tf.Tensor]:
    """Returns the parts of clean words, string of any shape: their signs, themselves in lower case, the first 2 and 3 and the
    last 1 to 4 letters. Digits become 0.

    Example:
        >>> [part.numpy()[0].decode() for part in parts(tf.constant(["Re-reading7"]))]
        [':CD-', '=re-reading0', '<re', '<re-', '>0', '>g0', '>ng0', '>ing0']
    """
    flags, lower = _signs(words), _letters(words)
    first = [tf.strings.regex_replace(lower, rf"^(.{{{n}}}).*$", r"\1") for n in (2, 3)]
    last = [tf.strings.regex_replace(lower, rf"^.*(.{{{n}}})$", r"\1") for n in (1, 2, 3, 4)]
    marked = [("<", part) for part in first] + [(">", part) for part in last]
    return [tf.strings.join([":", *flags]), *(tf.strings.join(pair) for pair in [("=", lower), *marked])]


def _letters(words: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_replace(tf.strings.lower(words, encoding="utf-8"), r"\p{N}", "0")


def _signs(words: tf.Tensor) -> list[tf.Tensor]:
    """Returns for each sign of a word its letter, or nothing if the word does not have it."""
    flags = [
        ("C", r"\p{Lu}.*"),
        ("A", r"[^\p{Ll}]*\p{Lu}[^\p{Ll}]*\p{Lu}[^\p{Ll}]*"),  # two capitals at least, no small letter
        ("D", r".*\p{N}.*"),
        ("-", r".*-.*"),
        ("S", r"[^\p{L}\p{N}]+"),
    ]
    return [tf.where(tf.strings.regex_full_match(words, pattern), flag, "") for flag, pattern in flags]


def _clean(words: tf.Tensor) -> tf.Tensor:
    """Cleans words of a data set as the tokenizer does: UTF-8 without white space and control characters."""
    words = tf.strings.unicode_transcode(words, "UTF-8", "UTF-8", errors="replace")
    return tf.strings.regex_replace(words, r"[\pZ\pC]+", "")


def _lengths(tokens: tf.Tensor, least: int = 1) -> tf.Tensor:
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


# --- The tokenizer: the rules of the English treebanks of Universal Dependencies -------------------------------------
# Plain ranges instead of Unicode classes: with classes RE2 would run out of memory and become slow in so long a pattern.
_END = r" !-/:-@\[-`{-~’‘"  # ends a word: a space, ASCII's punctuation, the two curly apostrophes
_CHAR = f"[^{_END}]"
_LETTER = f"[^0-9{_END}]"
_OTHER_SYMBOLS = (
    "([\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7\u2010-\u2017\u201a-\u205e\u20a0-\u20cf"
    "\u2100-\u2bff\u2e00-\u2e7f\u3001-\u303f\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40"
    "\uff5b-\uff65\uffe0-\uffee\U0001f000-\U0001faff])"
)
_ABBREVIATIONS = (
    "Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|Gen|Lt|Col|Sgt|Capt|Rev|Gov|Sen|Rep|Ft|Mt|Inc|Corp|Co|Ltd|vs|Jan|Feb|Aug|Sept?|Oct|Nov|"
    "Dec|Mon|Tues?|Wed|Thurs?|Fri|Ave|Blvd|approx|[Dd]ept|est|ext"
)
_PREFIXES = (
    "e|co|pre|non|ex|post|anti|multi|re|pro|semi|sub|mid|un|inter|over|de|uni|ultra|mini|micro|counter|intra|vice"
)
_ENDINGS = "com|org|net|edu|gov|mil|info|biz|html?|doc|xls|pdf|txt|jpg|ppt|zip|exe"
# The first matching alternative is a token. Text between matches is a token, too.
_TOKEN = "|".join(
    [
        r"[A-Za-z]{3,6}://[^ <>\"]*[^ <>\".,;:!?)\]}'’]",  # URLs
        r"mailto:[^ ]*[A-Za-z0-9]",
        r"www\.[^ <>\"]*[A-Za-z0-9/]",
        rf"{_CHAR}(?:{_CHAR}|[._+-])*@(?:{_CHAR}|[_-])+(?:\.(?:{_CHAR}|[_-])+)*",  # e-mail addresses
        rf"(?:(?:{_CHAR}|[_-])+\.)+(?i:{_ENDINGS})\b(?:/[^ <>\"]*[A-Za-z0-9/])?",  # hosts and files
        r"[:;=8]['-]?[()DPp]+|\(+[:;]|\^_*\^|<3",  # faces
        r"(?:[A-Za-z]\.){2,}[A-Za-z]?",  # U.S., a.m.
        rf"(?:{_ABBREVIATIONS})\.",
        r"[A-HJ-Z]\.",  # initials; "I." ends a sentence
        r"(?:\+?\d{1,2}-)?\d{3}-\d{3}-\d{4}|\d{3}-\d{4}",  # telephone numbers
        r"[.+]?\d+(?:[.,:/]\d+)*(?:(?:st|nd|rd|th|s)\b)?",  # numbers, times, dates, 2nd, 1990s
        rf"(?i:{_PREFIXES})-{_LETTER}+",  # e-mail, non-commercial; every other hyphen splits
        rf"{_LETTER}{_CHAR}*(?:&{_LETTER}{_CHAR}*)+",  # AT&T
        rf"{_LETTER}{_CHAR}*(?:['’_]{_LETTER}{_CHAR}*)*['’]?",  # words with clitics
        r"['’`](?i:s|m|re|ve|ll|d|em|til|cause|n)\b",
        r"[.!?]{2,}",
        *(rf"{mark}{{2,}}" for mark in ("-", r"\*", "=", "_", "~", "#", r"\+", "<", ">", "'", "’")),
        f"[{_END[1:]}]",
    ]
)
# Clitics are split off, once each, in this order.
_CUTS = (
    r"^(.+)((?i:n['’]t))$",
    r"^(.*[^'’])(['’](?i:s|m|re|ve|ll|d))$",
    r"^(.*[^'’])(['’])$",
    r"^((?i:can))((?i:not))$",
    r"^((?i:gon|wan))((?i:na))$",
    r"^((?i:do|does|did|ca|wo|is|was|could|would|should|have|are))((?i:nt))$",  # the apostrophe forgotten
    r"^((?i:i))((?i:m|ve))$",
    r"^((?i:that|what|there|he|she))((?i:s))$",
    r"^((?i:you|they))((?i:re|ve))$",
)


LONGEST = 256
"""Bytes of a part of a text without spaces that are read. The time for such a part grows with the square of its length."""


def tokenize(texts: tf.Tensor, most: int) -> tf.RaggedTensor:
    """Splits English texts, string (batch,), into tokens, ragged string (batch, tokens), close to the UD treebanks' rules.

    Contractions are split (do n't). Runs of a punctuation mark, URLs, e-mail addresses, numbers, times and common
    abbreviations stay whole. Bytes that are not UTF-8 become U+FFFD.

    Args:
        texts: UTF-8.
        most: maximum number of tokens of a text. The text beyond them is not read, nor is the end of a part without spaces
            that has more than `LONGEST` bytes.

    Example:
        >>> tokenize(tf.constant(["She can't pay $5.50..."]), 99).to_list()
        [[b'She', b'ca', b"n't", b'pay', b'$', b'5.50', b'...']]
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    texts = tf.strings.regex_replace(texts, r"[\pZ\pC]+", " ")
    # No token has a space, and every part between spaces has a token: more than `most` parts are never needed.
    parts = tf.strings.split(texts, maxsplit=most)[:, :most]
    parts = parts.with_flat_values(
        tf.strings.unicode_transcode(
            tf.strings.substr(parts.flat_values, 0, LONGEST), "UTF-8", "UTF-8", errors="ignore"
        )
    )
    texts = tf.strings.reduce_join(parts, axis=1, separator=" ")
    texts = tf.strings.regex_replace(texts, _OTHER_SYMBOLS, r" \1 ")
    rough = tf.strings.split(tf.strings.regex_replace(texts, f"({_TOKEN})", r" \1 "))[:, :most]
    words, which = tf.unique(rough.flat_values)
    for cut in _CUTS:
        words = tf.strings.regex_replace(words, cut, r"\1 \2", replace_global=False)
    fine = tf.gather(tf.strings.split(words), which)
    nested = tf.RaggedTensor.from_nested_row_splits(fine.flat_values, [rough.row_splits, fine.row_splits])
    return nested.merge_dims(1, 2)[:, :most]


def places_of(texts: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where the tokens that `tokenize` found are in the texts, in Unicode characters.

    Args:
        texts: string (batch,), UTF-8; bytes that are not UTF-8 count as the characters U+FFFD that replace them.
        tokens: the tokens of each text, string (batch, words), empty on padding.

    Returns:
        The first character of each word, from 0, and the character after its last, int32 (batch, words); both 0 on padding.

    Example:
        >>> texts = tf.constant(["Où est-il?"])
        >>> [part.numpy().tolist() for part in places_of(texts, tokenize(texts, 99).to_tensor())]
        [[[0, 3, 6, 7, 9]], [[2, 6, 7, 9, 10]]]
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    blanked = tf.strings.unicode_decode(tf.strings.regex_replace(texts, r"[\pZ\pC]", " "), "UTF-8")
    characters, rows = blanked.flat_values, tf.cast(blanked.value_rowids(), tf.int32)
    starts = tf.cast(blanked.row_starts(), tf.int32)
    is_space = characters == ord(" ")
    # A part between spaces is read up to LONGEST bytes: the size of a character in UTF-8 follows from its number.
    sizes = 1 + tf.add_n([tf.cast(characters >= least, tf.int32) for least in (1 << 7, 1 << 11, 1 << 16)])
    ends = tf.cumsum(sizes)
    parts = tf.cumsum(tf.cast(is_space, tf.int32)) + rows
    begins = tf.math.unsorted_segment_min(ends - sizes + tf.where(is_space, sizes, 0), parts, _last(parts) + 1)
    kept = tf.where(~is_space & (ends - tf.gather(begins, parts) <= LONGEST))[:, 0]
    # The letters of a row's words are the kept characters of the row, in order.
    places = tf.cast(kept, tf.int32) - tf.gather(starts, tf.gather(rows, kept))
    before = tf.cumsum(
        tf.math.unsorted_segment_sum(tf.ones_like(places), tf.gather(rows, kept), tf.size(texts)), exclusive=True
    )
    lengths = tf.strings.length(tokens, unit="UTF8_CHAR")
    stops = tf.cumsum(lengths, axis=1) + before[:, tf.newaxis]
    last = tf.maximum(tf.size(places) - 1, 0)
    places = tf.concat([places, [0]], axis=0)
    first = tf.gather(places, tf.clip_by_value(stops - lengths, 0, last))
    end = tf.gather(places, tf.clip_by_value(stops - 1, 0, last)) + 1
    return tf.where(lengths > 0, first, 0), tf.where(lengths > 0, end, 0)


def _last(numbers: tf.Tensor) -> tf.Tensor:
    """Returns the largest of some numbers from 0; 0 without any."""
    return tf.reduce_max(tf.concat([[0], numbers], axis=0))
