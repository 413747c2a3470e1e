"""Byte-level tokens in the graph, with core TensorFlow ops only: every text has tokens, and tokens give the text back.

A text is cut into pieces, and the bytes of a piece are joined pair by pair in the order in which the pairs were learned.
The numbers of the bytes and of the joined pairs, and the rule that cuts texts, are those of GPT-2. Source: Radford et al.,
Language models are unsupervised multitask learners, 2019, section 2.2.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import itertools
import re
from pathlib import Path
from typing import Any

import tensorflow as tf

from zoo import lookup
from zoo.checkpoints.byte_pair_files import END_OF_TEXT, byte_order
from zoo.errors import UsageError

TOKENS_FILE, MERGES_FILE = "tokens.txt", "merges.txt"

_SPACES = "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
"""All white space: RE2's own class has ASCII only."""
_LAST_SPACE = f"([{_SPACES}]+)([{_SPACES}][^{_SPACES}])"
_PIECES = {
    "words": f"('s|'t|'re|'ve|'m|'ll|'d| ?\\pL+| ?\\pN+| ?[^{_SPACES}\\pL\\pN]+|[{_SPACES}]+)",
    "characters": "((?s:.))",
}
"""What a piece is, by the rule."""
_BORDER, _SPECIAL = b"\xff", b"\xfe"
"""Bytes that no UTF-8 text has, so no text can forge them. The second begins the piece of a special token."""
END_PIECE = _SPECIAL + b"\xfe"
"""The piece of the first special token."""
_NEVER = 2**62


@dataclasses.dataclass(frozen=True)
class BytePairs:
    """Tokens of texts. Token 0 to 255 are the bytes, the next ones the joined pairs, and then the special tokens, of which
    the last one ends a text.

    Bytes that are not UTF-8 become U+FFFD. A special token in a text, such as `<|endoftext|>`, is that token.

    Attributes:
        merges: pairs of token numbers, in the order in which they are joined; the first one becomes token 256.
        rule: what pairs are joined in: `words`, with the space before them, or `characters`.
        specials: the special tokens.
        stripping: those of them that take the white space before them.

    Raises:
        UsageError: the rule is unknown, a pair has a token that is not yet there, or two tokens are the same bytes.

    Example:
        >>> tokens = BytePairs(((71, 72),))
        >>> tokens.encode(tf.constant(["hi!"])).to_list(), tokens.decode(tf.constant([[256, 0]])).numpy().tolist()
        ([[256, 0]], [b'hi!'])
    """

    merges: tuple[tuple[int, int], ...] = ()
    rule: str = "words"
    specials: tuple[str, ...] = (END_OF_TEXT,)
    stripping: tuple[str, ...] = ()
    _directory: Path | None = dataclasses.field(default=None, compare=False, repr=False)
    _tables: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "merges", tuple((int(a), int(b)) for a, b in self.merges))
        if self.rule not in _PIECES:
            raise UsageError(f"The rule is {self.rule!r}. Pass one of {', '.join(_PIECES)}.")
        for number, pair in enumerate(self.merges, 256):
            if not all(0 <= part < number for part in pair):
                raise UsageError(
                    f"Pair {number - 256} joins {pair}; expected tokens from 0 to {number - 1}. Correct it."
                )
        if len({*self.pieces}) < len(self.pieces):
            raise UsageError("Two pairs give the same bytes, so a text would have two spellings. Leave one out.")

    @functools.cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of every token but the special ones."""
        found = [bytes([byte]) for byte in byte_order()]
        for left, right in self.merges:
            found.append(found[left] + found[right])
        return tuple(found)

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self.merges) + 256 + len(self.specials)

    @property
    def end(self) -> int:
        """The number of the token that ends a text."""
        return self.size - 1

    @property
    def _special_pieces(self) -> list[bytes]:
        """The bytes that stand for the special tokens."""
        return [_SPECIAL + bytes([0xFE - number]) for number in range(len(self.specials))]

    @functools.cached_property
    def _indirect(self) -> tuple[int, ...]:
        """Tokens that a piece of the same bytes does not become, because other pairs are joined first."""
        ranks = {pair: number for number, pair in enumerate(self.merges, 256)}
        return tuple(number for number, piece in enumerate(self.pieces[256:], 256) if _joined(piece, ranks) != [number])

    # --- In the graph -------------------------------------------------------------------------------------------------

    def encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the tokens of texts, string (batch,): ragged int32 (batch, tokens)."""
        pieces = self.cut(texts)
        unique, places = tf.unique(pieces.flat_values)
        found = self._of_pieces(unique)
        nested = pieces.with_flat_values(tf.gather(found, places))
        return tf.cast(nested.merge_dims(1, 2), tf.int32)

    def decode(self, tokens: Any) -> tf.Tensor:
        """Returns the texts of token numbers, int32 (batch, tokens), dense or ragged: string (batch,). The token that ends a
        text, and numbers that are no tokens, are left out. Parts of a character that is not complete become U+FFFD."""
        joined = tf.strings.reduce_join(self.bytes_of(tokens), axis=1)
        return tf.strings.unicode_transcode(joined, "UTF-8", "UTF-8", errors="replace")

    def bytes_of(self, tokens: Any) -> tf.Tensor:
        """Returns the bytes of each token, strings of the same shape; empty for special tokens."""
        flat = tokens.flat_values if isinstance(tokens, tf.RaggedTensor) else tokens
        found = tf.io.decode_base64(self._table("bytes").lookup(tf.cast(flat, tf.int64)))
        found = tf.where(
            tf.cast(flat, tf.int64) >= len(self.merges) + 256, "", found
        )  # the special tokens are the last ones
        return tokens.with_flat_values(found) if isinstance(tokens, tf.RaggedTensor) else found

    def cut(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the pieces of texts, ragged string (batch, pieces); the end of a text is a piece of its own."""
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        for token, piece in zip(self.specials, self._special_pieces, strict=True):
            before = f"[{_SPACES}]*" if token in self.stripping else ""
            pattern = before + re.sub(r"([|<>/])", r"\\\1", token)
            texts = tf.strings.regex_replace(texts, pattern, _BORDER + piece + _BORDER)
        if self.rule == "words":
            texts = tf.strings.regex_replace(texts, _LAST_SPACE, b"\\1" + _BORDER + b"\\2")
        texts = tf.strings.regex_replace(texts, _PIECES[self.rule], b"\\1" + _BORDER)
        pieces = tf.strings.split(texts, _BORDER)
        return tf.ragged.boolean_mask(pieces, pieces != "")

    def _of_pieces(self, pieces: tf.Tensor) -> tf.RaggedTensor:
        """Returns the tokens of pieces, string (pieces,): ragged int64. Most are one token, which a table has."""
        whole = self._table("tokens").lookup(tf.io.encode_base64(pieces))
        if self._indirect:
            others = tf.constant(self._indirect, tf.int64)
            whole = tf.where(tf.reduce_any(whole[:, tf.newaxis] == others, axis=1), tf.constant(-1, tf.int64), whole)
        missing = tf.where(whole < 0)[:, 0]
        spelled = self._merged(tf.gather(pieces, missing))
        lengths = tf.tensor_scatter_nd_update(
            tf.ones_like(whole), missing[:, tf.newaxis], tf.cast(spelled.row_lengths(), tf.int64)
        )
        flat = tf.repeat(whole, lengths)
        flat = tf.tensor_scatter_nd_update(flat, tf.where(flat < 0), spelled.flat_values)
        return tf.RaggedTensor.from_row_lengths(flat, lengths)

    def _merged(self, pieces: tf.Tensor) -> tf.RaggedTensor:
        """Returns the tokens of pieces by joining pairs until none is known, ragged int64 (pieces, tokens)."""
        # ISO-8859-1 has a character for every byte.
        spelled = tf.strings.unicode_decode(pieces, "ISO-8859-1")
        numbers = [0] * 256
        for number, byte in enumerate(byte_order()):
            numbers[byte] = number
        ids = tf.gather(tf.constant(numbers, tf.int64), spelled.flat_values)
        owner = tf.cast(spelled.value_rowids(), tf.int64)
        count = spelled.nrows(tf.int64)

        def ranks(ids: tf.Tensor, owner: tf.Tensor) -> tf.Tensor:
            known = self._table("merges").lookup(ids[:-1] * self.size + ids[1:])
            return tf.where(owner[:-1] == owner[1:], known, _NEVER)

        def goes_on(ids: tf.Tensor, owner: tf.Tensor) -> tf.Tensor:
            return tf.reduce_any(ranks(ids, owner) < _NEVER)

        def body(ids: tf.Tensor, owner: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = ranks(ids, owner)
            best = tf.math.unsorted_segment_min(found, owner[:-1], count)
            hits = (found < _NEVER) & (found == tf.gather(best, owner[:-1]))
            # Of pairs that overlap, as in "aaa", every second one is joined, from the left.
            padded = tf.concat([[False], hits], axis=0)
            run = tf.cumsum(tf.cast(~padded, tf.int64))
            place = tf.range(tf.size(run, tf.int64))
            start = tf.gather(tf.math.unsorted_segment_min(place, run, tf.size(run, tf.int64) + 1), run)
            joins = hits & ((place - start)[1:] % 2 == 1)
            left = tf.concat([joins, [False]], axis=0)
            ids = tf.where(left, tf.concat([found, [0]], axis=0) + 256, ids)
            kept = ~tf.concat([[False], joins], axis=0)
            return tf.boolean_mask(ids, kept), tf.boolean_mask(owner, kept)

        shapes = (tf.TensorShape([None]), tf.TensorShape([None]))
        ids, owner = tf.while_loop(goes_on, body, (ids, owner), shape_invariants=shapes)
        return tf.RaggedTensor.from_value_rowids(ids, owner, count)

    # --- Tables -------------------------------------------------------------------------------------------------------

    def _table(self, name: str) -> Any:
        """`tokens` maps the base64 of bytes to numbers, `bytes` numbers to base64, and `merges` pairs to their order."""
        if name not in self._tables:
            with tf.init_scope():  # needed if the first access is in a traced tf.data function
                self._tables[name] = self._from_files(name) if self._directory else self._in_memory(name)
        return self._tables[name]

    def _in_memory(self, name: str) -> Any:
        if name == "merges":
            keys = tf.constant(self._pairs() or [-1], tf.int64)
            return lookup.in_memory(keys, tf.range(tf.size(keys, tf.int64)), _NEVER)
        numbers, lines = tf.range(self.size, dtype=tf.int64), tf.constant(self._lines())
        keys, values, default = (lines, numbers, -1) if name == "tokens" else (numbers, lines, "")
        return lookup.in_memory(keys, values, default)

    def _from_files(self, name: str) -> Any:
        assert self._directory is not None
        if name == "merges":
            return lookup.order_of_numbers(self._directory / MERGES_FILE, _NEVER)
        file = self._directory / TOKENS_FILE
        return lookup.numbers_of_lines(file, -1) if name == "tokens" else lookup.lines_by_number(file, "")

    def _lines(self) -> list[str]:
        """Returns the bytes of every token in base64, as a line cannot hold line breaks."""
        return [base64.urlsafe_b64encode(piece).decode().rstrip("=") for piece in (*self.pieces, *self._special_pieces)]

    def _pairs(self) -> list[int]:
        return [left * self.size + right for left, right in self.merges]

    def for_export(self, directory: Path) -> tuple[BytePairs, list[Any]]:
        """Returns equal tokens whose tables are files in `directory`, and the tables to save with them."""
        (directory / TOKENS_FILE).write_text("".join(f"{line}\n" for line in self._lines()), encoding="ascii")
        pairs = self._pairs() or [-1]
        (directory / MERGES_FILE).write_text("".join(f"{pair}\n" for pair in pairs), encoding="ascii")
        served = dataclasses.replace(self, _directory=directory, _tables={})
        return served, [served._table(name) for name in ("tokens", "bytes", "merges")]


def _joined(piece: bytes, ranks: dict[tuple[int, int], int]) -> list[int]:
    """Returns the tokens of a piece, in Python."""
    order = {byte: number for number, byte in enumerate(byte_order())}
    ids = [order[byte] for byte in piece]
    while len(ids) > 1:
        found = [ranks.get(pair, _NEVER) for pair in itertools.pairwise(ids)]
        best = min(found)
        if best == _NEVER:
            break
        made, i = [], 0
        while i < len(ids):
            joins = i < len(found) and found[i] == best
            made.append(best if joins else ids[i])
            i += 1 + joins
        ids = made
    return ids
