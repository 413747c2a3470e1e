"""WordPiece in the graph compared with `transformers`' BertTokenizer: the same ids for the same texts.

The slow test on real text (`ZOO_MANUAL_DIR` names the folder with the original files) counts differences; there are
none. The graph's table was made by passing every code point to the reference, so single characters cannot differ.
Only one kind of difference remains, in sequences of combining marks. Where accents are stripped, the reference sorts
marks by their canonical order before it drops the known ones. It does not know marks of later Unicode versions, such as
U+08CA or U+1ACA: here, two or more of those out of order keep their order. The characters are the same, and the word
has the same token or is unknown in both cases, unless the vocabulary contains such marks.
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
import unicodedata
import zipfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from selection import slow
from wordpiece_reference import SETTINGS, bert, expected
from wordpiece_texts import AWKWARD, corpus, rows
from zoo.checkpoints.wordpiece_files import Rules, normalizer, read_pieces
from zoo.datasets.preprocessing.base import get_preprocessor
from zoo.datasets.preprocessing.bert_text import Words, character_table
from zoo.datasets.preprocessing.subwords import match
from zoo.datasets.preprocessing.vocabularies import train_pieces
from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def graph(preprocessor, pair=False):
    """Returns the preprocessor as a single graph, as it is served."""
    spec = tf.TensorSpec([None], tf.string)
    return tf.function(preprocessor.__call__, input_signature=[spec, spec] if pair else [spec])


NAMES = {"do_lower_case": "lower_case", "strip_accents": "strip_accents", "tokenize_chinese_chars": "split_chinese"}


@pytest.mark.parametrize("settings", [SETTINGS[0], *map(slow, SETTINGS[1:])], ids=str)
def test_ids_equal_the_reference(vocabularies, settings):
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
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(LISTS)
def test_generated_strings_equal_the_reference(encoders, texts):
    for encode, tokenizer in encoders:
        assert rows(encode(tf.constant([t.encode() for t in texts]))) == expected(tokenizer, texts, max_length=64)


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
@hypothesis.given(st.lists(st.binary(max_size=40), min_size=1, max_size=20))
def test_invalid_utf8_bytes_are_dropped_like_replacement_characters(encoders, raw):
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


def test_words_are_split_at_the_longest_tokens():
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
        encode = graph(preprocessor, pair=True) if longest == 8 else preprocessor  # a trace takes a second
        assert rows(encode(tf.constant(texts), tf.constant(pairs))) == expected(
            tokenizer, list(texts), list(pairs), max_length=longest
        )
        assert rows(preprocessor(list(texts[::7]))) == expected(tokenizer, list(texts[::7]), max_length=longest)


def test_batches_are_padded_to_their_longest_row(vocabularies):
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


def test_a_text_of_a_megabyte_is_tokenized(vocabularies):
    preprocessor = WordPiecePreprocessor(vocabularies[True], 64)
    texts = ["x" * 1_000_000, "light " * 20_000, "qz" * 49 + " " + "zq" * 49 + " a" * 40_000, "🙂" * 25_000]
    assert rows(graph(preprocessor)(tf.constant(texts))) == expected(bert(vocabularies[True]), texts, max_length=64)


def test_requests_give_the_same_inputs_as_examples(vocabularies):
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


def answers_here(folder, texts):
    """Returns the outputs of all signatures, as SERVING finds them in another process."""
    return {
        name: {k: v.numpy().tolist() for k, v in function(**{k: tf.constant(texts) for k in names}).items()}
        for name, function in tf.saved_model.load(str(folder)).signatures.items()
        for names in [function.structured_input_signature[1]]
    }


@pytest.mark.parametrize("place", ["here", pytest.param("without this package", marks=pytest.mark.slow)])
def test_the_exported_function_gives_the_same_ids(vocabularies, tmp_path, place):
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
    if place == "here":
        found = answers_here(tmp_path / "saved", texts)
    else:
        files = [str(tmp_path / name) for name in ("saved", "texts.json", "found.json")]
        (tmp_path / "texts.json").write_text(json.dumps(texts))
        subprocess.run([sys.executable, "-I", "-c", SERVING, *files], check=True, capture_output=True, cwd=tmp_path)
        found = json.loads((tmp_path / "found.json").read_text())
    for name, inputs in (("single", preprocessor(texts)), ("pair", preprocessor(texts, texts))):
        assert found[name] == {key: value.numpy().tolist() for key, value in inputs.items()}


MANUAL_DIR = Path(os.environ.get("ZOO_MANUAL_DIR") or "nowhere")


def real_texts():
    """Returns every sentence of the data sets' original files, by name."""
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
def test_generated_strings_differ_only_in_the_order_of_marks(vocabularies):
    """Texts with many marks in every order: words differ only in the order of marks, and ids never differ."""
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


def test_a_text_of_exactly_as_many_words_as_fit_is_not_followed_by_an_empty_word(vocabularies):
    encode, tokenizer = graph(WordPiecePreprocessor(vocabularies[True], 12)), bert(vocabularies[True])
    for count in (9, 10):
        for end in ("", " ", "  ", "\n"):
            texts = ["the " * (count - 1) + "the" + end, "the qqzzxx", " "]
            assert rows(encode(tf.constant(texts))) == expected(tokenizer, texts), texts
    longer, fitting = rows(encode(tf.constant(["the " * 11]))), rows(encode(tf.constant(["the " * 10])))
    assert longer == fitting


def test_matching_steps_depend_only_on_the_length_of_words():
    """A word of thirty parts takes thirty steps, for any number of words."""
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["a", "##a"], tf.constant([5, 6], tf.int32)), -1
    )
    seen = []

    def lookup(keys):
        seen.append(int(tf.size(keys)))
        return table.lookup(keys)

    for count in (20, 200):
        seen.clear()
        pieces, counts = match(tf.constant(["a" * 30] * count), lookup, 1, 1)
        assert pieces.shape == (30 * count,) and set(counts.numpy()) == {30}
        assert seen == [count] * 31  # first the whole words, then one remainder of each per step
