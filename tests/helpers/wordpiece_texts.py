"""Texts that are difficult for WordPiece, and batches of them without padding."""

from __future__ import annotations

import numpy as np

import zoo

AWKWARD = [
    "",
    "   \t\n ",
    "It's 5 o'clock!",
    "Äpfel, ÖL und STRASSE ǅ İstanbul ﬁn ΟΔΟΣ",
    "no\u00a0break\u2003em\u3000wide\u200bzero\u2028line\x85next\x0bvertical",
    "😀😀 smile 👩‍👩‍👧 🇫🇷",
    "价格是 $5.00 吗？ 豈 𠀀 ひらがな カタカナ",
    "한국어 각\u1100\u1161",
    "control\x00\x07characters\ufffd\ufeff",
    "a-b_c/d\\e `^~|<=>+$",
    "e\u0301\u0323 \u0301alone ≠ ≮ \u037e \u0385",
    "ไทย हिन्दी עִבְרִית العَرَبِيَّة",
    "[SEP] x[MASK]y [sep] [UNK][PAD]] [[CLS]] [S\u200bEP] [CLS",
    "\U0010fff0 \U0010fff3[SEP]\U0010ffff [S\U0010fff0EP] \ue000private",
    "a" * 100 + " " + "a" * 101 + " " + "é" * 100 + " " + "é" * 101,
    "##s # #s s##s",
]


def corpus():
    data = zoo.datasets.load("commands")
    texts = [example["text"].decode() for example in data.train.as_numpy_iterator()]
    return texts + [text for text in AWKWARD for _ in range(3)]


def rows(inputs):
    """Returns the token ids and the token types of each row, without padding."""
    ids, types, mask = (inputs[name].numpy() for name in ("token_ids", "token_type_ids", "padding_mask"))
    assert ids.dtype == types.dtype == mask.dtype == np.int32
    assert (np.diff(mask, axis=1) <= 0).all() and (types[mask == 0] == 0).all()
    return [(i[m == 1].tolist(), t[m == 1].tolist()) for i, t, m in zip(ids, types, mask, strict=True)]
