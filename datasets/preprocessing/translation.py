"""Translation: pairs of texts to token numbers and back in the graph, with core TensorFlow string ops only.

A text is split into chunks (a word with the space before it, a digit, a punctuation mark), and a chunk into the longest known
subword tokens from its start. Nothing is lower-cased or dropped, so translations keep case and spaces. Rare and new words are
split into several tokens, so no word is unknown. Only a character can be unknown.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from zoo import lookup
from zoo.datasets.preprocessing.base import Unknown, object_array, register_preprocessor
from zoo.datasets.preprocessing.text import random_texts, text_request
from zoo.errors import UsageError
from zoo.tasks import Request

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

PADDING, UNKNOWN, START, END = 0, 1, 2, 3
FIRST_PIECE = 4
MARK = "\u2581"
"""Stands for a space in a token, so that it is visible in a vocabulary file. In a text it is read as a space."""
_SPECIAL = ("[PAD]", "[UNK]", "[START]", "[END]")
_MIN_COUNT = 2
_LONGEST = 20
"""Maximum number of characters of a token."""

# An apostrophe stays with the letters before it, as in elisions (l', qu'), and a no-break space with the mark after it. Any
# other symbol (\p{So}), also MARK itself, is a separate chunk.
_CHUNK = (
    rf"({MARK}?[\pL\pM]+['\x{{2019}}]?|{MARK}?\pN|"
    rf"[{MARK}\x{{a0}}\x{{202f}}]?[\pP\p{{Sm}}\p{{Sc}}\p{{Sk}}]|(?s:.))"
)
_CUT = "\x01"


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
        fixed = {
            "source_vocab_size": len(source) + FIRST_PIECE,
            "target_vocab_size": len(target) + FIRST_PIECE,
            "max_length": sizes["max_length"],
        }
        return cls(tuple(source), tuple(target), sizes["max_length"]), fixed

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
        found = self._numbers(examples["translation"], "target")
        rows = tf.ones([found.nrows(), 1], tf.int32)
        inputs = tf.concat([START * rows, found], axis=1)[:, : self.max_length].to_tensor(PADDING)
        targets = tf.concat([found, END * rows], axis=1)[:, : self.max_length].to_tensor(PADDING)
        sources = self.serve(examples)[0]
        weights = tf.cast(targets != PADDING, tf.float32)
        return {**sources, "target_ids": inputs}, {"translation": targets}, {"translation": weights}

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns `text`, string (batch,), into {"source_ids": int32 (batch, tokens)}. There are no extras."""
        return {"source_ids": self._numbers(requests["text"], "source").to_tensor(PADDING)}, {}

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

    def _numbers(self, texts: tf.Tensor, side: str) -> tf.RaggedTensor:
        """Returns the token numbers of texts, ragged int32 (batch, 1 to max_length)."""
        texts = tf.convert_to_tensor(texts)
        if texts.dtype != tf.string or texts.shape.rank != 1:
            raise UsageError(
                f"A text batch is {texts.dtype.name} of shape {texts.shape}; expected string (batch,). Pass a list."
            )
        found = chunks(texts, most=self.max_length)
        different, which = tf.unique(found.flat_values)
        pieces = longest_pieces(different, self._table(side))
        nested = found.with_flat_values(tf.gather(pieces, which))
        return nested.merge_dims(1, 2)[:, : self.max_length]

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


def chunks(texts: tf.Tensor, most: int | None = None) -> tf.RaggedTensor:
    """Splits texts, string (batch,), into chunks, ragged string (batch, at least 1). Joined chunks give the text again.

    Args:
        texts: UTF-8.
        most: maximum number of tokens needed per text. Characters that are surely beyond are not processed.

    Example:
        >>> [c.decode() for c in chunks(tf.constant(["J'ai 19 ans !"]))[0].numpy()]
        ["\u2581J'", 'ai', '\u25811', '9', '\u2581ans', '\u2581!']
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    if most is not None:
        texts = tf.strings.substr(texts, 0, most * _LONGEST, unit="UTF8_CHAR")
    texts = tf.strings.regex_replace(texts, r"[\p{Cc}\x{2028}\x{2029} ]", MARK)
    texts = tf.strings.join([MARK, texts])  # a word has the same token at the start of a text and within it
    cut = tf.strings.regex_replace(texts, _CHUNK, rf"{_CUT}\1")
    return tf.strings.split(tf.strings.substr(cut, 1, 2**31 - 1), _CUT)


def longest_pieces(texts: tf.Tensor, table: tf.lookup.StaticHashTable) -> tf.RaggedTensor:
    """Splits chunks, string (n,), into the longest tokens in a table, from the start: ragged int32 (n, at least 1).

    A character that is not in the table becomes one unknown token.
    """
    characters = tf.strings.unicode_split(texts, "UTF-8").to_tensor("")  # (n, longest)
    whole = tf.cast(table.lookup(texts), tf.int32)
    rest = tf.where(whole == UNKNOWN)[:, 0]  # most chunks are a single token
    characters = tf.gather(characters, rest)
    present = characters != ""
    width = tf.shape(characters)[1]
    places = tf.range(width)

    def longer(size: tf.Tensor, candidates: tf.Tensor, sizes: tf.Tensor, numbers: tf.Tensor) -> Any:
        """Updates the longest known token that starts at each place with the tokens of length `size`."""
        known = tf.cast(table.lookup(candidates), tf.int32)
        fits = (known != UNKNOWN) & (places + size <= tf.reduce_sum(tf.cast(present, tf.int32), axis=1, keepdims=True))
        sizes, numbers = tf.where(fits, size, sizes), tf.where(fits, known, numbers)
        following = tf.concat([characters[:, size:], tf.fill([tf.shape(rest)[0], size], "")], axis=1)
        return size + 1, tf.strings.join([candidates, following]), sizes, numbers

    ones = tf.ones_like(characters, tf.int32)
    _, _, sizes, numbers = tf.while_loop(
        lambda size, *_: (size <= tf.minimum(width, _LONGEST)) & (tf.shape(rest)[0] > 0),
        longer,
        (tf.constant(1), characters, ones, ones * UNKNOWN),
        shape_invariants=(tf.TensorShape([]), *[tf.TensorShape([None, None])] * 3),
    )

    def follow(place: tf.Tensor, at: tf.Tensor, taken: tf.Tensor) -> Any:
        """Marks the places where a token starts. `at` is the start of the next token."""
        here = at == place
        taken |= here[:, tf.newaxis] & (places == place)
        return place + 1, tf.where(here, place + sizes[:, place], at), taken

    _, _, taken = tf.while_loop(
        lambda place, *_: (place < width) & (tf.shape(rest)[0] > 0),
        follow,
        (tf.constant(0), tf.zeros_like(rest, tf.int32), tf.zeros_like(present)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape([None, None])),
    )
    parts = tf.ragged.boolean_mask(numbers, taken & present)
    # Whole and split chunks, back in their order.
    ordered = tf.where(whole != UNKNOWN)[:, 0]
    both = tf.concat([tf.RaggedTensor.from_tensor(tf.gather(whole, ordered)[:, tf.newaxis]), parts], axis=0)
    return tf.gather(both, tf.argsort(tf.concat([ordered, rest], axis=0)))


def learn_pieces(words: Mapping[str, int], size: int) -> list[str]:
    """Returns at most `size` subword tokens, the most frequent first.

    It starts from the characters and repeatedly joins the most frequent pair of neighbours. Pairs that occur once are not
    joined. Source: Sennrich et al., Neural machine translation of rare words with subword units, ACL 2016.

    Args:
        words: number of occurrences of each chunk.
        size: maximum number of tokens.

    Example:
        >>> learn_pieces({"\u2581an": 5, "\u2581on": 3}, 5)
        ['\u2581an', '\u2581on', 'n', '\u2581', 'a']
    """
    alphabet: collections.Counter[str] = collections.Counter()
    for word, count in words.items():
        for character in word:
            alphabet[character] += count
    alphabet[MARK] += _MIN_COUNT  # always included: it is the token of an empty text
    known = [c for c, n in sorted(alphabet.items(), key=lambda item: (-item[1], item[0])) if n >= _MIN_COUNT][:size]
    spelled = [(list(word), count) for word, count in sorted(words.items()) if count >= _MIN_COUNT]
    known += _joined_pairs(spelled, size - len(known), set(known))
    frequency: collections.Counter[str] = collections.Counter(dict.fromkeys(known, 0))
    for spelling, count in spelled:
        for piece in spelling:
            frequency[piece] += count
    order = {piece: (-frequency[piece], -alphabet[piece], i) for i, piece in enumerate(known)}
    return sorted(known, key=order.__getitem__)


def _joined_pairs(spelled: list[tuple[list[str], int]], most: int, known: set[str]) -> list[str]:
    """Joins pairs in the spellings, in place, until there are `most` new tokens, and returns these."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    where: dict[tuple[str, str], set[int]] = collections.defaultdict(set)
    for i, (spelling, count) in enumerate(spelled):
        for pair in itertools.pairwise(spelling):
            counts[pair] += count
            where[pair].add(i)
    waiting = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(waiting)
    made: list[str] = []
    while waiting and len(made) < most:
        count, pair = heapq.heappop(waiting)
        joined = "".join(pair)
        if counts[pair] != -count or -count < _MIN_COUNT or len(joined) > _LONGEST:
            continue  # too long, or an outdated entry: the pair is also in the heap with its current count
        if joined not in known:  # another pair may have produced it
            known.add(joined)
            made.append(joined)
        changed: set[tuple[str, str]] = set()
        for i in sorted(where.pop(pair)):
            spelling, times = spelled[i]
            for old in itertools.pairwise(spelling):
                counts[old] -= times
                changed.add(old)
            spelling[:] = _join(spelling, pair, joined)
            for new in itertools.pairwise(spelling):
                counts[new] += times
                where[new].add(i)
                changed.add(new)
        for other in changed:
            if counts[other] >= _MIN_COUNT:
                heapq.heappush(waiting, (-counts[other], other))
    return made


def _join(spelling: list[str], pair: tuple[str, str], joined: str) -> list[str]:
    result: list[str] = []
    i = 0
    while i < len(spelling):
        if (spelling[i], *spelling[i + 1 : i + 2]) == pair:
            result.append(joined)
            i += 2
        else:
            result.append(spelling[i])
            i += 1
    return result


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
