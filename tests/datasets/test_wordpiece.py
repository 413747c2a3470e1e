"""WordPiece inside the graph against `transformers`' BertTokenizer: the same numbers of the same texts.

The slow test over real text (`ZOO_MANUAL_DIR` names the folder with the original files) counts differences; there are
none. The graph's table is made by asking the reference about every code point, so that of single characters no difference
is possible. One kind is left, of characters that follow each other: where accents are stripped the reference sorts marks
by their canonical order before it drops those that it knows, and it does not know marks of later versions of Unicode,
such as U+08CA or U+1ACA. Two or more of those in a row, out of order, stay as they came here. They are the same characters,
and the word is the same piece or unknown either way unless the vocabulary has such marks.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import random
import subprocess
import sys
import types
import unicodedata
import warnings
import zipfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.checkpoints.wordpiece_files import Rules, normalizer, read_pieces, read_vocabulary, write_pieces
from zoo.datasets.preprocessing.base import get_preprocessor
from zoo.datasets.preprocessing.bert_text import Words, character_table
from zoo.datasets.preprocessing.subwords import match
from zoo.datasets.preprocessing.vocabularies import texts_of, train_pieces
from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor
from zoo.scripts import cli

transformers = pytest.importorskip("transformers")

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
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


@pytest.fixture(scope="module")
def vocabularies():
    """A vocabulary for every setting of the letters' size."""
    return {lower: train_pieces(corpus(), 600, Rules(lower)) for lower in (True, False)}


def bert(pieces, **settings):
    numbers = {piece: number for number, piece in enumerate(pieces)}
    return transformers.BertTokenizer(vocab=numbers, **settings)


def graph(preprocessor, pair=False):
    """The preprocessor as one graph, as it is served."""
    spec = tf.TensorSpec([None], tf.string)
    return tf.function(preprocessor.__call__, input_signature=[spec, spec] if pair else [spec])


def rows(inputs):
    """What a batch holds without padding: numbers and token types by row."""
    ids, types, mask = (inputs[name].numpy() for name in ("token_ids", "token_type_ids", "padding_mask"))
    assert ids.dtype == types.dtype == mask.dtype == np.int32
    assert (np.diff(mask, axis=1) <= 0).all() and (types[mask == 0] == 0).all()
    return [(i[m == 1].tolist(), t[m == 1].tolist()) for i, t, m in zip(ids, types, mask, strict=True)]


def expected(tokenizer, *texts, max_length=128):
    found = tokenizer(*texts, truncation=True, max_length=max_length)
    return list(zip(found["input_ids"], found["token_type_ids"], strict=True))


SETTINGS = [
    {"do_lower_case": True},
    {"do_lower_case": False},
    {"do_lower_case": True, "strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"do_lower_case": True, "tokenize_chinese_chars": False},
]
NAMES = {"do_lower_case": "lower_case", "strip_accents": "strip_accents", "tokenize_chinese_chars": "split_chinese"}


@pytest.mark.parametrize(
    "settings", [*SETTINGS[:2], *(pytest.param(s, marks=pytest.mark.slow) for s in SETTINGS[2:])], ids=str
)
def test_numbers_equal_the_reference(vocabularies, settings):
    pieces = vocabularies[settings["do_lower_case"]]
    preprocessor = WordPiecePreprocessor(pieces, 128, **{NAMES[k]: v for k, v in settings.items()})
    texts = corpus() if settings.keys() == {"do_lower_case"} else AWKWARD
    ours = rows(graph(preprocessor)(tf.constant(texts)))
    for text, our, their in zip(texts, ours, expected(bert(pieces, **settings), texts), strict=True):
        assert our == their, text
    assert any(1 in ids for ids, _ in ours) and any(len(ids) > 12 for ids, _ in ours)


SCRIPTS = st.one_of(
    st.characters(max_codepoint=0x7F),
    st.characters(max_codepoint=0x24F),
    st.characters(categories=("Mn", "Mc", "Cc", "Cf", "Zs", "Zl", "Zp", "Co", "Cn")),
    st.characters(categories=("P", "S", "N")),
    st.characters(min_codepoint=0x370, max_codepoint=0x6FF),
    st.characters(min_codepoint=0x1E00, max_codepoint=0x1FFF),
    st.characters(min_codepoint=0x3000, max_codepoint=0xD7FF),
    st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF),
    st.characters(exclude_categories=("Cs",)),
    st.sampled_from([*SPECIAL, " ", "\0", "hello", "light", "\u0301", "İ", "\ufffd"]),
)
LISTS = st.lists(st.lists(SCRIPTS, max_size=30).map("".join), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def encoders(vocabularies):
    return [
        (graph(WordPiecePreprocessor(pieces, 64, lower)), bert(pieces, do_lower_case=lower))
        for lower, pieces in vocabularies.items()
    ]


@hypothesis.settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(LISTS)
def test_generated_strings_equal_the_reference(encoders, texts):
    for encode, tokenizer in encoders:
        assert rows(encode(tf.constant([t.encode() for t in texts]))) == expected(tokenizer, texts, max_length=64)


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
@hypothesis.given(st.lists(st.binary(max_size=40), min_size=1, max_size=20))
def test_bytes_that_are_no_utf8_are_left_out_as_pythons_replacement_is(encoders, raw):
    encode, tokenizer = encoders[0]
    texts = [text.decode("utf-8", "replace") for text in raw]
    assert rows(encode(tf.constant(raw))) == expected(tokenizer, texts, max_length=64)


def same_words(rules, codepoints):
    from tokenizers import pre_tokenizers

    text = "".join(f"a{chr(c)}b " for c in codepoints if not 0xD800 <= c < 0xE000)
    ours = [word.decode() for word in Words(rules, ())(tf.constant([text]))[0].numpy()]
    theirs = pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normalizer(rules).normalize_str(text))
    return ours == [word for word, _ in theirs]


def test_code_points_equal_the_reference():
    edges = [0xD7A3, 0xE000, 0xF8FF, 0x2F800, 0x3FFFF, 0x40000, 0xDFFFF, 0xE0001, 0xE01EF, 0xEFFFF, 0xF0000]
    rare = [0xFFFFD, 0xFFFFE, 0xFFFFF, 0x100000, 0x10FFEF, 0x10FFF0, 0x10FFF4, 0x10FFFD, 0x10FFFE, 0x10FFFF]
    assert same_words(Rules(), [*range(0x3400), *range(0xAC00, 0xAD00), *range(0xF900, 0x10000), *edges, *rare])


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_code_point_equals_the_reference(settings):
    rules = Rules(**{NAMES[k]: v for k, v in settings.items()})
    for start in range(0, 0x110000, 0x2000):
        assert same_words(rules, range(start, start + 0x2000)), hex(start)


def test_the_tables_are_small():
    table = character_table(Rules())
    assert table.pages.nbytes + table.entries.nbytes + table.rows.nbytes < 500_000
    assert table.expand(ord("!")) == [32, ord("!"), 32] and table.expand(0) == []


def test_words_come_apart_at_the_longest_pieces():
    pieces = (*SPECIAL, "un", "una", "##able", "##ble", "a", "##a", "b", "日", "##本", "##a" * 2)
    preprocessor = WordPiecePreprocessor(pieces[:-1], 20, split_chinese=False)
    ids = preprocessor(["unable unaable ab bbb aaa 日本 日日 x"])["token_ids"].numpy()[0].tolist()
    number = {piece: i for i, piece in enumerate(pieces)}
    parts = ["una", "##ble", "una", "##able", "[UNK]", "[UNK]", "a", "##a", "##a", "日", "##本", "[UNK]", "[UNK]"]
    assert ids == [2, *(number[part] for part in parts), 3]


def test_pairs_and_truncation_equal_the_reference(vocabularies):
    pieces = vocabularies[True]
    tokenizer = bert(pieces)
    texts, pairs = zip(
        *itertools.product(["light " * n for n in range(7)], ["kitchen " * n for n in range(7)]), strict=True
    )
    for longest in (3, 4, 8, 11):
        preprocessor = WordPiecePreprocessor(pieces, longest)
        encode = graph(preprocessor, pair=True)
        assert rows(encode(tf.constant(texts), tf.constant(pairs))) == expected(
            tokenizer, list(texts), list(pairs), max_length=longest
        )
        assert rows(preprocessor(list(texts[::7]))) == expected(tokenizer, list(texts[::7]), max_length=longest)


def test_padding_reaches_to_the_longest_row_of_the_batch(vocabularies):
    preprocessor = WordPiecePreprocessor(vocabularies[True], 128)
    texts = ["light", "", "light kitchen light"]
    inputs = preprocessor(texts)
    padded = bert(vocabularies[True])(texts, padding=True, return_tensors="np")
    np.testing.assert_array_equal(inputs["token_ids"], padded["input_ids"])
    np.testing.assert_array_equal(inputs["padding_mask"], padded["attention_mask"])
    trimmed, targets, _ = preprocessor.trim({k: v[:2] for k, v in inputs.items()}, {"label": tf.constant([0, 1])}, {})
    assert {k: v.shape for k, v in trimmed.items()} == dict.fromkeys(
        inputs, (2, padded["attention_mask"][0].sum())
    ) and targets["label"].shape == (2,)
    assert all(v.shape == (0, 0) for v in preprocessor(tf.constant([], tf.string)).values())


def test_a_megabyte_is_answered(vocabularies):
    preprocessor = WordPiecePreprocessor(vocabularies[True], 64)
    texts = ["x" * 1_000_000, "light " * 170_000, "qz" * 49 + " " + "zq" * 49 + " a" * 400_000, "🙂" * 250_000]
    assert rows(graph(preprocessor)(tf.constant(texts))) == expected(bert(vocabularies[True]), texts, max_length=64)


def test_examples_and_requests(vocabularies):
    preprocessor = WordPiecePreprocessor(vocabularies[True], 16, has_pairs=True)
    examples = [{"text": b"light", "text_pair": b"kitchen", "label": 1}, {"text": b"", "text_pair": b"", "label": 0}]
    batch = {key: tf.constant([example[key] for example in examples]) for key in examples[0]}
    inputs, targets, weights = preprocessor.encode(batch)
    assert targets["label"].numpy().tolist() == [1, 0] and weights == {}
    assert rows(inputs) == expected(bert(vocabularies[True]), ["light", ""], ["kitchen", ""])
    requests = preprocessor.to_requests(examples)
    assert list(requests) == ["text", "text_pair"] == list(preprocessor.requests)
    assert requests["text_pair"].tolist() == [b"kitchen", b""]
    served, extras = preprocessor.serve({k: tf.constant(list(v)) for k, v in requests.items()})
    assert rows(served) == rows(inputs) and extras["lengths"].numpy().tolist() == [len(ids) for ids, _ in rows(inputs)]
    alone = get_preprocessor("wordpiece")(**{**preprocessor.config(), "has_pairs": False})
    assert list(alone.requests) == ["text"] and list(alone.to_requests(examples)) == ["text"]
    assert get_preprocessor("wordpiece")(**json.loads(json.dumps(preprocessor.config()))) == preprocessor


SERVING = """
import json, sys
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
texts = json.load(open(sys.argv[2]))
found = {}
for name, function in loaded.signatures.items():
    answer = function(**{key: tf.constant(texts) for key in function.structured_input_signature[1]})
    found[name] = {key: value.numpy().tolist() for key, value in answer.items()}
assert not [name for name in sys.modules if name.split(".")[0] in ("zoo", "tokenizers", "tensorflow_text")]
json.dump(found, open(sys.argv[3], "w"))
"""


def test_the_exported_function_answers_the_same_without_this_package(vocabularies, tmp_path):
    preprocessor = WordPiecePreprocessor(vocabularies[True], 32, has_pairs=True)
    (tmp_path / "assets").mkdir()
    served, resources = preprocessor.for_export(tmp_path / "assets")
    assert served == preprocessor
    module = tf.Module()
    module.resources = resources
    spec = tf.TensorSpec([None], tf.string)
    single = tf.function(lambda text: served.serve({"text": text})[0])
    pair = tf.function(lambda text, text_pair: served.serve({"text": text, "text_pair": text_pair})[0])
    functions = {"single": single.get_concrete_function(spec), "pair": pair.get_concrete_function(spec, spec)}
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=functions)
    assert read_pieces(tmp_path / "saved" / "assets" / "vocab.txt") == vocabularies[True]
    assert (tmp_path / "saved" / "saved_model.pb").stat().st_size < 1_000_000

    texts = AWKWARD
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    words = [
        sys.executable,
        "-I",
        "-c",
        SERVING,
        *(str(tmp_path / name) for name in ("saved", "texts.json", "found.json")),
    ]
    subprocess.run(words, check=True, capture_output=True, cwd=tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    for name, inputs in (("single", preprocessor(texts)), ("pair", preprocessor(texts, texts))):
        assert found[name] == {key: value.numpy().tolist() for key, value in inputs.items()}


# --- Vocabularies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", ["both", "vocab.txt", "settings changed"])
@pytest.mark.parametrize("settings", SETTINGS[:3], ids=str)
def test_a_checkpoints_files_are_read_as_the_reference_reads_them(vocabularies, tmp_path, settings, files):
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
    yield "nothing", {}, f"{folder} holds neither tokenizer.json nor vocab.txt. Pass the folder of a BERT"
    yield "no [SEP]", {"vocab.txt": lines(good[:3])}, r"vocab.txt lacks \[SEP\]; expected \[PAD\], .* `zoo vocabulary`"
    yield "twice", {"vocab.txt": lines([*good, "a"])}, "vocab.txt has the piece 'a' 2 times; expected every piece once"
    yield "empty", {"vocab.txt": lines([*good, "", "b"])}, "vocab.txt has the piece '' as number 6; expected text"
    yield "not UTF-8", {"vocab.txt": b"\xff"}, "Cannot read .*vocab.txt: .* Pass a vocab.txt, UTF-8"
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
    yield "added", {"tokenizer.json": json.dumps(extra)}, "has the added token '<user>'; expected .* alone. Remove it"
    holes = right | {"model": {"type": "WordPiece", "vocab": {piece: 2 * i for i, piece in enumerate(good)}}}
    yield "holes", {"tokenizer.json": json.dumps(holes)}, "has 6 pieces whose numbers are not 0 to 5"
    short = right | {"model": {**right["model"], "max_input_chars_per_word": 9}}
    yield "short", {"tokenizer.json": json.dumps(short)}, "has max_input_chars_per_word 9; expected 100"
    named = {"vocab.txt": lines(good), "tokenizer_config.json": '{"cls_token": "<s>"}'}
    yield "other names", named, r"has cls_token '<s>'; expected '\[CLS\]'"
    yield "deep", {"tokenizer.json": "[" * 100_000}, "Cannot read .*tokenizer.json: .* Pass the file that transformers"
    carriage = {"vocab.txt": lines([*good, "b\rc"])}
    yield (
        "carriage return",
        carriage,
        r"vocab.txt has the piece 'b\\rc' as number 6; expected text without a line break",
    )
    vocab = right["model"]["vocab"]
    for name, changes, message in (
        (
            "a text as model",
            {"model": "WordPiece"},
            "has a str, BertNormalizer, BertPreTokenizer; expected WordPiece",
        ),
        ("no vocabulary", {"model": {"type": "WordPiece"}}, "has the vocabulary None; expected numbers by piece"),
        (
            "a list",
            {"model": {"type": "WordPiece", "vocab": good}},
            r"has the vocabulary \['\[PAD\]', .*; expected numbers",
        ),
        (
            "texts",
            {"model": {"type": "WordPiece", "vocab": vocab | {"a": "5"}}},
            "has the number '5' for the piece 'a'",
        ),
        (
            "truth",
            {"model": {"type": "WordPiece", "vocab": vocab | {"a": True}}},
            "has the number True for the piece 'a'",
        ),
        ("null", {"added_tokens": None}, r"has \[None\] among its added_tokens; expected a list of objects"),
        ("a text", {"added_tokens": ["[PAD]"]}, r"has \[PAD\] among its added_tokens; expected a list of objects"),
        (
            "nameless",
            {"added_tokens": [{"id": 0}]},
            r"has {'id': 0} among its added_tokens; expected a list of objects",
        ),
        ("no number", {"added_tokens": [{"content": "[PAD]"}]}, r"has the number None for the piece '\[PAD\]'"),
        (
            "its case",
            {"normalizer": {"type": "BertNormalizer", "lowercase": 1}},
            "has lowercase 1; expected a truth value",
        ),
    ):
        yield name, {"tokenizer.json": json.dumps(right | changes)}, f"tokenizer.json {message}"
    for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        wrong = {"vocab.txt": lines(good), "tokenizer_config.json": json.dumps({key: "False"})}
        yield key, wrong, f"tokenizer_config.json has {key} 'False'; expected a truth value. Put true or false there"
    both = {"tokenizer.json": json.dumps(right), "tokenizer_config.json": '{"do_lower_case": 0}'}
    yield "a number", both, "tokenizer_config.json has do_lower_case 0; expected a truth value"
    yield "no object", {**both, "tokenizer_config.json": "3"}, "tokenizer_config.json holds a int; expected an object"


@pytest.mark.parametrize("number", range(29))
def test_wrong_files_are_refused(tmp_path, number):
    everything = list(faults(tmp_path))
    assert len(everything) == 29
    _, files, message = everything[number]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(zoo.UsageError, match=message):
        read_vocabulary(tmp_path)


def test_null_in_the_settings_is_the_default(tmp_path):
    write_pieces([*SPECIAL, "a"], tmp_path / "vocab.txt")
    keys = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(dict.fromkeys(keys)))
    assert read_vocabulary(tmp_path).rules == Rules(True, None, True)


@pytest.mark.parametrize("lower", [True, False])
def test_a_vocabulary_of_capital_letters_without_settings_is_warned_of(tmp_path, lower):
    pieces = [*SPECIAL, *(f"word{i}" for i in range(36)), "価格", "42", "가" if not lower else "価", "##É", "Berlin"]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        write_pieces(pieces[:-1] if lower else pieces, tmp_path / "vocab.txt")  # one of 39 pieces may be out of reach
        assert read_vocabulary(tmp_path).rules.lower_case
        (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
        read_vocabulary(tmp_path)
    messages = [str(w.message) for w in said]
    assert len(messages) == (0 if lower else 1)
    assert lower or "; 3 of its 40 pieces with letters have them, such as '가', and match nothing. If" in messages[0]
    assert lower or messages[0].endswith('put tokenizer_config.json with {"do_lower_case": false} there.')


def test_a_vocabulary_is_written_whole_or_not_at_all(tmp_path):
    write_pieces(SPECIAL, tmp_path / "vocab.txt")
    with pytest.raises(UnicodeEncodeError):
        write_pieces([*SPECIAL, "a" * 100_000, "\ud800"], tmp_path / "vocab.txt")
    assert read_pieces(tmp_path / "vocab.txt") == SPECIAL and len(list(tmp_path.iterdir())) == 1


def test_texts_of_a_split_and_of_pairs():
    data = zoo.datasets.load("commands")
    for split in ("train", "test"):
        raw = [example["text"].decode() for example in data.splits[split].dataset().as_numpy_iterator()]
        assert list(texts_of(data, split)) == raw
    rows = tf.data.Dataset.from_tensors({"text_pair": b"second \xff", "text": b"first"})
    split = types.SimpleNamespace(dataset=lambda: rows)
    pairs = types.SimpleNamespace(name="x", features={"text": 0, "text_pair": 0}, splits={"train": split})
    assert list(texts_of(pairs)) == ["first", "second \ufffd"]


def test_wrong_arguments_are_refused():
    with pytest.raises(zoo.UsageError, match=r"The vocabulary lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\]"):
        WordPiecePreprocessor(("a",), 8)
    with pytest.raises(zoo.UsageError, match=r"max_length is 2; expected a whole number of at least 3. Pass 128"):
        WordPiecePreprocessor(SPECIAL, 2)
    with pytest.raises(zoo.UsageError, match=r"A text batch is int32 of shape \(1,\); expected string \(batch,\)"):
        WordPiecePreprocessor(SPECIAL, 8)(tf.constant([3]))
    with pytest.raises(zoo.UsageError, match="No vocabulary of 6 pieces comes from texts with 1 characters; expected"):
        train_pieces(["a"], 6)


TRAINING = """
import sys
from zoo.datasets.preprocessing.vocabularies import train_pieces
texts = [f"{chr(0x4e00 + i * 7 % 3000)} word{i % 97} {i % 89}ing" for i in range(4000)]
if sys.argv[1] == "backwards":
    texts.reverse()
print(ascii(train_pieces(texts, 1500)))
"""


@pytest.mark.slow
def test_training_gives_the_same_pieces_every_time():
    said = set()
    for order, threads in (("forwards", "1"), ("backwards", "4")):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads}
        words = [sys.executable, "-P", "-c", TRAINING, order]
        said.add(subprocess.run(words, check=True, capture_output=True, env=environment).stdout)
    (pieces,) = map(eval, said)
    assert pieces[:5] == SPECIAL and "word" in pieces and len(pieces) <= 1500


def test_a_data_sets_vocabulary_is_trained_on_its_training_split():
    data = zoo.datasets.load("commands")
    needs = {"vocab_size": 300, "max_length": 16}
    preprocessor, fixed = WordPiecePreprocessor.for_model(data, needs, {"vocab_size": 200})
    texts = [example["text"].decode() for example in data.train.as_numpy_iterator()]
    assert preprocessor.vocabulary == train_pieces(texts, 200) and preprocessor.max_length == 16
    assert fixed == {"vocab_size": len(preprocessor.vocabulary), "max_length": 16} and preprocessor.input_shapes[
        "token_ids"
    ] == (16,)
    shorter, fixed = WordPiecePreprocessor.for_model(data, needs, {"max_length": 8})
    assert shorter.max_length == fixed["max_length"] == 8


def test_a_spec_may_choose_the_preprocessor(monkeypatch):
    from zoo import registry

    monkeypatch.setattr(registry.MODELS, "entries", dict(registry.MODELS.entries))

    def build_pieces_model(vocab_size, num_classes, max_length=12):
        raise AssertionError

    needs = {"preprocessor": "wordpiece", "vocab_size": 150, "max_length": 12}
    registry.register_model(
        tasks=("text_classification",),
        reference="none",
        preprocessing=needs,
        data_arguments=("num_classes", "vocab_size"),
        tiny={"num_classes": 2},
    )(build_pieces_model)
    prepared = zoo.datasets.load("commands").prepare("pieces")
    assert isinstance(prepared.preprocessor, WordPiecePreprocessor)
    assert prepared.arguments["vocab_size"] == len(prepared.preprocessor.vocabulary) <= 150
    inputs, targets = next(iter(prepared.keras_batches("train", 8)))
    assert inputs["token_ids"].shape[0] == 8 and inputs["token_ids"].shape[1] <= 12 and targets.shape == (8,)
    assert inputs["padding_mask"].numpy().sum(axis=1).max() == inputs["token_ids"].shape[1]


# --- Commands --------------------------------------------------------------------------------------------------------


def test_a_vocabulary_from_a_data_set_and_from_files(tmp_path, capsys):
    file = tmp_path / "new" / "vocab.txt"
    assert cli.main(["vocabulary", "--data", "commands", "--size", "120", "--path", str(file)]) == 0
    said = capsys.readouterr().out
    assert (
        f"{file}: {len(read_pieces(file)):,} pieces from 720 texts." in said and "words of the test split, 0." in said
    )
    texts = tmp_path / "texts.txt"
    texts.write_text("Low Lower\nlowest\n\n" * 20 + "unseen ß\n")
    again = tmp_path / "again.txt"
    assert cli.main(["vocabulary", "--files", str(texts), "--cased", "--size", "40", "--path", str(again)]) == 0
    assert "Of 10 words of every tenth line, which training left out, " in (said := capsys.readouterr().out), said
    assert "Low" in read_pieces(again)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Neither --data nor --files came; expected one of them"),
        (["--data", "commands", "--files", "x"], "Both --data and --files came"),
        (["--files", "nowhere.txt"], "Cannot read nowhere.txt"),
        (["--data", "digits"], "Data set 'digits' has image, label and no text"),
        (["--data", "commands", "--size", "6"], "No vocabulary of 6 pieces"),
        (["--data", "commands", "--sise", "6"], "Unknown option --sise"),
    ],
)
def test_wrong_vocabulary_commands_are_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["vocabulary", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_existing_vocabulary_stays(tmp_path, capsys):
    (tmp_path / "vocab.txt").write_text("mine")
    assert cli.main(["vocabulary", "--data", "commands", "--path", str(tmp_path / "vocab.txt")]) == 2
    assert "is there already. Pass another --path" in capsys.readouterr().err
    assert (tmp_path / "vocab.txt").read_text() == "mine"


@pytest.mark.slow
def test_tokenization_is_measured(tmp_path):
    """In a process of its own: it sets how many threads TensorFlow has."""
    file = tmp_path / "figures.csv"
    words = ["benchmark", "tokenization", "--batch_sizes", "1", "200", "--seconds", "0.01", "--output", str(file)]
    source = "import sys; from zoo.scripts import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-P", "-c", source, *words], capture_output=True, text=True, check=True)
    assert "| 200 | SavedModel of zoo |" in done.stdout and "140 texts of" in done.stdout
    figures = list(csv.DictReader(file.open()))
    assert [(row["batch"], row["contender"]) for row in figures] == [
        (batch, name) for batch in ("1", "200") for name in ("zoo", "tokenizers", "transformers")
    ]
    assert all(float(row["texts_per_second"]) > 0 for row in figures)


def test_a_contender_that_answers_otherwise_is_not_measured():
    from zoo.scripts.benchmarks.tokenization import check_alike, library_encoder

    pieces = (*SPECIAL, "a", "b")
    ours = WordPiecePreprocessor((*SPECIAL, "b", "a"), 8)
    with pytest.raises(
        zoo.UsageError, match=r"tokenizers makes \[2, 5, 3\] of the text 'a', the SavedModel \[2, 6, 3\]"
    ):
        check_alike({"zoo": ours, "tokenizers": library_encoder(pieces)}, ["a"])


# --- Real text -------------------------------------------------------------------------------------------------------

MANUAL_DIR = Path(os.environ.get("ZOO_MANUAL_DIR") or "nowhere")


def real_texts():
    """Every sentence of the data sets' original files, by name."""
    texts = {}
    lines = (MANUAL_DIR / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").split("\n")
    texts["sms_spam"] = [line.split("\t", 1)[1] for line in lines if line]
    with zipfile.ZipFile(MANUAL_DIR / "clinc_oos" / "clinc_oos.zip") as archive:
        parts = [list(csv.reader(io.StringIO(archive.read(name).decode())))[1:] for name in sorted(archive.namelist())]
        texts["clinc_oos"] = [row[0] for part in parts for row in part]
    with zipfile.ZipFile(MANUAL_DIR / "fra_eng" / "fra-eng.zip") as archive:
        pairs = [line.split("\t") for line in archive.read("fra.txt").decode().split("\n") if line]
    texts["fra_eng, English"], texts["fra_eng, French"] = [p[0] for p in pairs], [p[1] for p in pairs]
    lines = (MANUAL_DIR / "tiny_shakespeare" / "input.txt").read_text(encoding="utf-8").split("\n")
    texts["tiny_shakespeare"] = [line for line in lines if line]
    files = sorted((MANUAL_DIR / "universal_dependencies_en_ewt").glob("*.conllu"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").split("\n")]
    texts["en_ewt"] = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    return texts


@pytest.mark.slow
@pytest.mark.skipif(
    not (MANUAL_DIR / "fra_eng" / "fra-eng.zip").is_file(),
    reason="ZOO_MANUAL_DIR names no folder with the original files",
)
@pytest.mark.parametrize(("lower", "size"), [(True, 30_000), (False, 8_000)])
def test_every_sentence_of_real_text_equals_the_reference(lower, size):
    texts = real_texts()
    pieces = train_pieces(itertools.chain(*texts.values()), size, Rules(lower))
    encode, tokenizer = graph(WordPiecePreprocessor(pieces, 128, lower)), bert(pieces, do_lower_case=lower)
    counts = {}
    for name, sentences in texts.items():
        different = 0
        for start in range(0, len(sentences), 4096):
            part = sentences[start : start + 4096]
            answers = zip(rows(encode(tf.constant(part))), expected(tokenizer, part), strict=True)
            different += sum(ours != theirs for ours, theirs in answers)
        counts[name] = (len(sentences), different)
        print(f"{'uncased' if lower else 'cased'} {name}: {len(sentences):,} sentences, {different} different")
    assert all(count > 5000 and not different for count, different in counts.values())


@pytest.mark.slow
def test_differences_in_generated_strings_are_of_the_one_kind(vocabularies):
    """Marks in every order, far more of them than in text: words differ in the order of marks alone, numbers nowhere."""
    from tokenizers import pre_tokenizers

    assigned = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs") and chr(c) != "["]
    marks = [c for c in assigned if unicodedata.combining(chr(c))]
    draw, texts = random.Random(1), []
    for number in range(6000):
        pool = assigned if number % 2 else [*marks, 0x61, 0x62, 0x1100, 0x1161, 0xAC00]
        texts.append("".join(chr(draw.choice(pool)) for _ in range(draw.randint(0, 30))))
    words, owners = Words(Rules())(tf.constant([text.encode() for text in texts]))
    ours: list[list[str]] = [[] for _ in texts]
    for word, owner in zip(words.numpy(), owners.numpy(), strict=True):
        ours[owner].append(word.decode())
    splitter, reference, different = pre_tokenizers.BertPreTokenizer(), normalizer(Rules()), 0
    for text, our in zip(texts, ours, strict=True):
        their = [word for word, _ in splitter.pre_tokenize_str(reference.normalize_str(text))]
        if our != their:
            different += 1
            assert [sorted(word) for word in our] == [sorted(word) for word in their]
    print(f"{len(texts):,} generated strings, {different} with marks in another order")
    assert 0 < different < len(texts) / 10
    encode, tokenizer = graph(WordPiecePreprocessor(vocabularies[True], 128)), bert(vocabularies[True])
    assert rows(encode(tf.constant([text.encode() for text in texts]))) == expected(tokenizer, texts)


def test_matching_is_no_slower_for_words_of_many_parts():
    """A word of a hundred parts takes a hundred steps, whatever the number of words."""
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["a", "##a"], tf.constant([5, 6], tf.int32)), -1
    )
    seen = []

    def lookup(keys):
        seen.append(int(tf.size(keys)))
        return table.lookup(keys)

    for count in (20, 2000):
        seen.clear()
        pieces, counts = match(tf.constant(["a" * 100] * count), lookup, 1, 1)
        assert pieces.shape == (100 * count,) and set(counts.numpy()) == {100}
        assert seen == [count] * 101  # once the words, then of each what is left: one beginning of one letter
