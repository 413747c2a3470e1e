"""Splits English texts into words by the rules of the treebanks of Universal Dependencies, with core TensorFlow ops only."""

from __future__ import annotations

import tensorflow as tf

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
