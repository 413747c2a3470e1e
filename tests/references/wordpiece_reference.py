"""WordPiece as implemented by the BertTokenizer of `transformers`."""

from __future__ import annotations

import pytest

transformers = pytest.importorskip("transformers")

SETTINGS = [
    {"do_lower_case": True},
    {"do_lower_case": False},
    {"do_lower_case": True, "strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"do_lower_case": True, "tokenize_chinese_chars": False},
]


def bert(pieces, **settings):
    numbers = {piece: number for number, piece in enumerate(pieces)}
    return transformers.BertTokenizer(vocab=numbers, **settings)


def expected(tokenizer, *texts, max_length=128):
    found = tokenizer(*texts, truncation=True, max_length=max_length)
    return list(zip(found["input_ids"], found["token_type_ids"], strict=True))
