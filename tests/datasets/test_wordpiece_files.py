"""Vocabulary and tokenizer files: read as by the reference, written atomically, or rejected with a message."""

from __future__ import annotations

import json
import os
import types
import warnings

import pytest
import tensorflow as tf

import zoo
from wordpiece_reference import SETTINGS, bert, expected, transformers
from wordpiece_texts import AWKWARD, rows
from zoo.checkpoints import bert_config
from zoo.checkpoints.wordpiece_files import Rules, read_pieces, read_vocabulary, write_pieces
from zoo.datasets.preprocessing.vocabularies import texts_of, train_pieces
from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


FILES = ("both", "vocab.txt", "settings changed")


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        pytest.param(one, file, id=f"{one}-{file}", marks=[] if number == place else [pytest.mark.slow])
        for number, one in enumerate(SETTINGS[:3])
        for place, file in enumerate(FILES)
    ],
)
def test_checkpoint_files_are_read_as_by_the_reference(vocabularies, tmp_path, settings, files):
    bert(vocabularies[settings["do_lower_case"]], **settings).save_pretrained(tmp_path)
    if files == "vocab.txt":
        (tmp_path / "tokenizer.json").unlink()
        write_pieces(vocabularies[settings["do_lower_case"]], tmp_path / "vocab.txt")
    if files == "settings changed":
        file = tmp_path / "tokenizer_config.json"
        content = json.loads(file.read_text())
        content["do_lower_case"] = not content["do_lower_case"]
        file.write_text(json.dumps(content))
    reference = transformers.BertTokenizer.from_pretrained(tmp_path)
    found = read_vocabulary(tmp_path)
    ours = WordPiecePreprocessor(found.pieces, 128, **vars(found.rules))
    assert rows(ours(AWKWARD)) == expected(reference, AWKWARD)


def faults(folder):
    good = [*SPECIAL, "a"]
    lines = "\n".join
    yield "nothing", {}, f"{folder} holds neither tokenizer.json nor vocab.txt. Pass a BERT folder"
    yield "no [SEP]", {"vocab.txt": lines(good[:3])}, r"vocab.txt lacks \[SEP\]; expected \[PAD\], .* `zoo vocabulary`"
    yield "twice", {"vocab.txt": lines([*good, "a"])}, "vocab.txt has the token 'a' 2 times; expected every token once"
    yield "empty", {"vocab.txt": lines([*good, "", "b"])}, "vocab.txt has the token '' as number 6; expected text"
    yield "not UTF-8", {"vocab.txt": b"\xff"}, "Cannot read .*vocab.txt: .* Pass a vocab.txt in UTF-8"
    yield "no JSON", {"tokenizer.json": "{"}, "Cannot read .*tokenizer.json: .* Pass the file that transformers wrote"
    yield "a list", {"tokenizer.json": "[]"}, "tokenizer.json holds a list; expected an object"
    other = {"model": {"type": "BPE"}, "normalizer": None, "pre_tokenizer": {"type": "ByteLevel"}}
    yield "GPT", {"tokenizer.json": json.dumps(other)}, "has BPE, None, ByteLevel; expected WordPiece, BertNormalizer"
    right = {
        "model": {"type": "WordPiece", "vocab": {piece: i for i, piece in enumerate(good)}},
        "normalizer": {"type": "BertNormalizer"},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
    }
    extra = right | {"added_tokens": [{"content": "<user>", "id": 6}]}
    yield "added", {"tokenizer.json": json.dumps(extra)}, "has the added token '<user>'; expected only .*. Remove it"
    holes = right | {"model": {"type": "WordPiece", "vocab": {piece: 2 * i for i, piece in enumerate(good)}}}
    yield "holes", {"tokenizer.json": json.dumps(holes)}, "has 6 tokens, but their numbers are not 0 to 5"
    short = right | {"model": {**right["model"], "max_input_chars_per_word": 9}}
    yield "short", {"tokenizer.json": json.dumps(short)}, "has max_input_chars_per_word 9; expected 100"
    named = {"vocab.txt": lines(good), "tokenizer_config.json": '{"cls_token": "<s>"}'}
    yield "other names", named, r"has cls_token '<s>'; expected '\[CLS\]'"
    yield "deep", {"tokenizer.json": "[" * 100_000}, "Cannot read .*tokenizer.json: .* Pass the file that transformers"
    carriage = {"vocab.txt": lines([*good, "b\rc"])}
    yield (
        "carriage return",
        carriage,
        r"vocab.txt has the token 'b\\rc' as number 6; expected text without a line break",
    )
    vocab = right["model"]["vocab"]
    for name, changes, message in (
        (
            "a text as model",
            {"model": "WordPiece"},
            "has a str, BertNormalizer, BertPreTokenizer; expected WordPiece",
        ),
        ("no vocabulary", {"model": {"type": "WordPiece"}}, "has the vocabulary None; expected numbers by token"),
        (
            "a list",
            {"model": {"type": "WordPiece", "vocab": good}},
            r"has the vocabulary \['\[PAD\]', .*; expected numbers",
        ),
        (
            "texts",
            {"model": {"type": "WordPiece", "vocab": vocab | {"a": "5"}}},
            "has the number '5' for the token 'a'",
        ),
        (
            "truth",
            {"model": {"type": "WordPiece", "vocab": vocab | {"a": True}}},
            "has the number True for the token 'a'",
        ),
        ("null", {"added_tokens": None}, r"has \[None\] among its added_tokens; expected a list of objects"),
        ("a text", {"added_tokens": ["[PAD]"]}, r"has \[PAD\] among its added_tokens; expected a list of objects"),
        (
            "nameless",
            {"added_tokens": [{"id": 0}]},
            r"has {'id': 0} among its added_tokens; expected a list of objects",
        ),
        ("no number", {"added_tokens": [{"content": "[PAD]"}]}, r"has the number None for the token '\[PAD\]'"),
        (
            "its case",
            {"normalizer": {"type": "BertNormalizer", "lowercase": 1}},
            "has lowercase 1; expected a boolean",
        ),
    ):
        yield name, {"tokenizer.json": json.dumps(right | changes)}, f"tokenizer.json {message}"
    for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        wrong = {"vocab.txt": lines(good), "tokenizer_config.json": json.dumps({key: "False"})}
        yield key, wrong, f"tokenizer_config.json has {key} 'False'; expected a boolean. Put true or false there"
    both = {"tokenizer.json": json.dumps(right), "tokenizer_config.json": '{"do_lower_case": 0}'}
    yield "a number", both, "tokenizer_config.json has do_lower_case 0; expected a boolean"
    for name, more, message in (
        (
            "MeCab",
            {"tokenizer_config.json": '{"word_tokenizer_type": "mecab"}'},
            "has word_tokenizer_type 'mecab'; expected",
        ),
        (
            "whole words",
            {"tokenizer_config.json": '{"do_basic_tokenize": false}'},
            "has do_basic_tokenize False; expected",
        ),
        (
            "Japanese",
            {"tokenizer_config.json": '{"tokenizer_class": "BertJapaneseTokenizer"}'},
            "has tokenizer_class 'BertJapaneseTokenizer'; expected BertTokenizer",
        ),
        ("SentencePiece", {"spiece.model": b"\n\x0e"}, "has spiece.model, which belongs to a SentencePiece tokenizer"),
        (
            "added_tokens.json",
            {"added_tokens.json": '{"[PAD]": 0, "#hl": 6}'},
            "added_tokens.json has the added token '#hl'",
        ),
        (
            "added_tokens_decoder",
            {"tokenizer_config.json": '{"added_tokens_decoder": {"6": {"content": "#hl"}}}'},
            "tokenizer_config.json has the added token '#hl'; expected only",
        ),
        (
            "additional special",
            {"special_tokens_map.json": '{"additional_special_tokens": ["a"]}'},
            "special_tokens_map.json has the added token 'a'; expected only",
        ),
    ):
        yield name, {"vocab.txt": lines(good), **more}, message
    half = right | {"model": {"type": "WordPiece", "vocab": vocab | {"\ud800": 6}}}
    yield (
        "half a character",
        {"tokenizer.json": json.dumps(half)},
        r"the token '\\ud800' as number 6; expected text without",
    )
    yield "no object", {**both, "tokenizer_config.json": "3"}, "tokenizer_config.json holds a int; expected an object"


@pytest.mark.parametrize("number", range(37))
def test_invalid_files_are_rejected(tmp_path, number):
    everything = list(faults(tmp_path))
    assert len(everything) == 37
    _, files, message = everything[number]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(zoo.UsageError, match=message):
        read_vocabulary(tmp_path)


def test_only_small_regular_files_are_read(tmp_path):
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(5 << 30)  # without using space on the disk
    with pytest.raises(zoo.UsageError, match=r"tokenizer.json has 5,368,709,120 bytes; expected at most 268,435,456"):
        read_vocabulary(tmp_path)
    os.rename(tmp_path / "tokenizer.json", tmp_path / "config.json")
    with pytest.raises(zoo.UsageError, match=r"config.json has 5,368,709,120 bytes; expected at most 67,108,864"):
        bert_config.read_config(tmp_path)
    os.mkfifo(tmp_path / "vocab.txt")
    with pytest.raises(zoo.UsageError, match=r"holds neither tokenizer.json nor vocab.txt"):
        read_vocabulary(tmp_path)
    with pytest.raises(zoo.UsageError, match=r"vocab.txt is not a regular file. Pass a file"):
        read_pieces(tmp_path / "vocab.txt")


def test_null_in_the_settings_means_the_default(tmp_path):
    write_pieces([*SPECIAL, "a"], tmp_path / "vocab.txt")
    keys = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(dict.fromkeys(keys)))
    assert read_vocabulary(tmp_path).rules == Rules(True, None, True)


@pytest.mark.parametrize("lower", [True, False])
def test_a_cased_vocabulary_without_settings_gives_a_warning(tmp_path, lower):
    pieces = [*SPECIAL, *(f"word{i}" for i in range(36)), "価格", "42", "가" if not lower else "価", "##É", "Berlin"]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        write_pieces(pieces[:-1] if lower else pieces, tmp_path / "vocab.txt")  # one of 39 tokens may be unreachable
        assert read_vocabulary(tmp_path).rules.lower_case
        (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
        read_vocabulary(tmp_path)
    messages = [str(w.message) for w in said]
    assert len(messages) == (0 if lower else 1)
    assert (
        lower
        or "; 3 of its 40 tokens with letters have capitals or accents, such as '가', and match nothing. If"
        in messages[0]
    )
    assert lower or messages[0].endswith('put tokenizer_config.json with {"do_lower_case": false} there.')


def test_vocabularies_are_written_atomically(tmp_path):
    write_pieces(SPECIAL, tmp_path / "vocab.txt")
    with pytest.raises(UnicodeEncodeError):
        write_pieces([*SPECIAL, "a" * 100_000, "\ud800"], tmp_path / "vocab.txt")
    assert read_pieces(tmp_path / "vocab.txt") == SPECIAL and len(list(tmp_path.iterdir())) == 1


def test_texts_of_splits_and_pairs_are_collected():
    data = zoo.datasets.load("commands")
    for split in ("train", "test"):
        raw = [example["text"].decode() for example in data.splits[split].dataset().as_numpy_iterator()]
        assert list(texts_of(data, split)) == raw
    rows = tf.data.Dataset.from_tensors({"text_pair": b"second \xff", "text": b"first"})
    split = types.SimpleNamespace(dataset=lambda: rows)
    pairs = types.SimpleNamespace(name="x", features={"text": 0, "text_pair": 0}, splits={"train": split})
    assert list(texts_of(pairs)) == ["first", "second \ufffd"]


def test_invalid_arguments_are_rejected():
    with pytest.raises(zoo.UsageError, match=r"The vocabulary lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\]"):
        WordPiecePreprocessor(("a",), 8)
    with pytest.raises(zoo.UsageError, match=r"max_length is 2; expected a whole number of at least 3. Pass 128"):
        WordPiecePreprocessor(SPECIAL, 2)
    with pytest.raises(zoo.UsageError, match=r"A text batch is int32 of shape \(1,\); expected string \(batch,\)"):
        WordPiecePreprocessor(SPECIAL, 8)(tf.constant([3]))
    with pytest.raises(
        zoo.UsageError, match="Cannot train a vocabulary of 6 tokens on texts with 1 characters; expected"
    ):
        train_pieces(["a"], 6)
