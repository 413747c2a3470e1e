"""Word vectors from a file: what is read, in which rows it ends, and which files are rejected."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest

import zoo
from zoo import checkpoints
from zoo.checkpoints import word_vectors


def write(path, words, dim=5, *, header=False, end="\n", separator=" "):
    """Writes random vectors, and returns them by word as NumPy parses them."""
    values = np.random.default_rng(0).normal(0, 0.4, (len(words), dim))
    lines = [separator.join([word, *(f"{v:.5f}" for v in row)]) for word, row in zip(words, values, strict=True)]
    path.write_bytes(
        "".join(f"{line}{end}" for line in [*([f"{len(words)} {dim}"] if header else []), *lines]).encode()
    )
    parsed = [np.array(line.split(separator)[-dim:], np.float64).astype(np.float32) for line in lines]
    return dict(zip(reversed(words), reversed(parsed), strict=True))  # the first of equal words counts


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"header": True, "end": " \n"},
        {"header": True, "end": "\r\n"},
        {"separator": "\t"},
        {"end": "\n\n"},
    ],
    ids=["glove", "fasttext", "windows", "tabs", "empty lines"],
)
def test_vectors_equal_those_that_numpy_parses(tmp_path, form):
    words = ["the", "zoo", "the", "straße", "很好", "2010", "Paris", "\xa0"]
    expected = write(tmp_path / "some.vec", words, **form)
    numbers = {"很好": 2, "absent": 3, "the": 4, "straße": 5, "2010": 7}
    found = word_vectors.read(tmp_path / "some.vec", numbers)
    assert found.numbers.tolist() == [2, 4, 5, 7]
    np.testing.assert_array_equal(found.values, [expected[word] for word in ("很好", "the", "straße", "2010")])
    assert found.sha256 == hashlib.sha256((tmp_path / "some.vec").read_bytes()).hexdigest()
    assert str(found) == "word vectors: 4 of 5 words found"


def test_a_missing_word_takes_the_vector_of_its_lower_case_form(tmp_path):
    expected = write(tmp_path / "some.vec", ["USA", "PARIS", "Paris", "us", "The", "the", "Rome", "rome"])
    numbers = {"Us": 2, "US": 3, "paris": 4, "The": 5, "THE": 6, "rome": 7, "usa": 8, "Usa": 9}
    found = word_vectors.read(tmp_path / "some.vec", numbers)
    rows = dict(zip(found.numbers.tolist(), found.values, strict=True))
    sources = {2: "us", 3: "us", 4: "PARIS", 5: "The", 6: "the", 7: "rome", 8: "USA"}
    assert rows.keys() == sources.keys()  # "Usa" has neither itself nor its lower-case form in the file
    for number, word in sources.items():
        np.testing.assert_array_equal(rows[number], expected[word], word)


def test_words_with_spaces_are_read_over(tmp_path):
    file = tmp_path / "glove.txt"
    file.write_text("the 1 2 3\n. . . 4 5 6\nat name@domain.com 7 8 9\nzoo  -1 .5 1e-2\n")
    found = word_vectors.read(file, {"the": 2, "zoo": 3, ".": 4, "at": 5})
    assert found.numbers.tolist() == [2, 3]
    np.testing.assert_array_equal(found.values, np.array([[1, 2, 3], [-1, 0.5, 0.01]], np.float32))


def test_a_large_file_is_never_in_memory(tmp_path):
    file = tmp_path / "large.vec"
    line = " ".join(["0.12345"] * 100)
    file.write_text("".join(f"word{i} {line}\n" for i in range(12_000)))
    tracemalloc.start()
    found = word_vectors.read(file, {"word7": 2, "word11999": 3})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.numbers) == 2
    assert peak < 1_000_000 < file.stat().st_size / 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1 2 3\nzoo 1 2\n", r"^Line 2 of '.*' has 2 values; expected 3, as in the first line\. Correct this line"),
        (b"a 1 2 3\nzoo 1 2 3 4\n", r"^Line 2 of '.*' has 4 values; expected 3"),
        (b"2 3\na 1 2 3\nb 1\n", r"^Line 3 of '.*' has 1 values; expected 3"),
        (b"9 3\nzoo 1 2 3\n", r"^'.*' has 1 lines of vectors; its first line promises 9\. Pass a whole copy"),
        (b"a 1 2\nzoo 1 nan\n", r"^Line 2 of '.*' has 'nan' in the vector of 'zoo'; expected finite numbers\. Correct"),
        (b"a 1 2\nzoo 1e39 1\n", r"^Line 2 of '.*' has '1e39' in the vector of 'zoo'; expected finite"),
        (b"a 1 2\nzoo 1 x\n", r"^Line 2 of '.*' has 'x' in the vector of 'zoo'; expected finite numbers"),
        (b"a 1 2\nz\xe9 1 2\n", r"^Line 2 of '.*' is not UTF-8\. Convert the file: iconv"),
        (b"\x1f\x8b\x08zoo", r"^'.*' is compressed \(gzip\); expected a text file of word vectors\. Pass the unpacked"),
        (b"PK\x03\x04zoo", r"^'.*' is compressed \(zip\); expected a text file"),
        (
            b"3 2\nzoo \0\0\x80?\0\0",
            r"^'.*' is binary; expected a text file .*, or convert it to lines `word v1 v2 \.\.\.`",
        ),
        (b"word\n", r"^Line 1 of '.*' has 1 columns; expected a word and at least 2 values, .* Convert the file"),
        (b"", r"^Line 1 of '.*' has 1 columns"),
        (
            b"some 1 2\nother 1 2\n",
            r"^None of the 1 words of the data is in '.*'\. Pass word vectors of the data's language",
        ),
    ],
)
def test_files_that_are_no_word_vectors_are_rejected(tmp_path, content, message):
    file = tmp_path / "bad.vec"
    file.write_bytes(content)
    with pytest.raises(zoo.UsageError, match=message):
        word_vectors.read(file, {"zoo": 2})


def test_missing_files_are_rejected(tmp_path):
    for path in (tmp_path / "none.vec", tmp_path, 5):
        with pytest.raises(zoo.UsageError, match=r"^word_vectors is .*, which is no file\. Pass a local text file"):
            word_vectors.read(path, {"zoo": 2})


@pytest.mark.parametrize(
    ("model", "data", "scale"),
    [
        ("embedding_lstm", "commands", 1.0),
        ("attention", "commands", 1.0),
        ("transformer", "commands", 8**-0.5),
        ("rnn", "tagged_commands", 1.0),
    ],
)
def test_the_embedding_begins_with_the_vectors(tmp_path, model, data, scale):
    words = ["the", "My", "light", "Turn", "on", "radio", "zebra"]
    expected = write(tmp_path / "small.vec", words, 8, header=True)
    loaded = zoo.datasets.load(data)
    prepared = loaded.prepare(model, word_vectors=str(tmp_path / "small.vec"))
    assert prepared.arguments["embedding_dim"] == 8
    assert "embedding_dim" not in prepared.requested
    rows = prepared.build(seed=0).get_layer("embedding").get_weights()[0]
    random = loaded.prepare(model, embedding_dim=8).build(seed=0).get_layer("embedding").get_weights()[0]
    numbers = {word: number for number, word in enumerate(prepared.preprocessor.vocabulary, 2)}
    matches = {}
    for word in numbers:
        stand_ins = (word, word.lower(), *([word.capitalize()] if word.islower() else []))
        if found := [match for match in stand_ins if match in words]:
            matches[word] = found[0]
    assert matches["the"] == "the"
    assert matches["my"] == "My", "the only form of it in the file"
    wanted = {numbers[w]: expected[match] * np.float32(scale) for w, match in matches.items()}
    factor = np.std([*wanted.values()]) / random.std()
    for number, row in enumerate(rows):
        np.testing.assert_allclose(row, wanted.get(number, random[number] * factor), rtol=1e-6 * (number not in wanted))
    known = sum(" " not in word for word in numbers)  # the forms of a tagger are no words
    assert str(prepared.word_vectors).startswith(f"word vectors: {len(wanted)} of {known} words found")
    assert prepared.pretrained["sha256"] == {
        "small.vec": hashlib.sha256((tmp_path / "small.vec").read_bytes()).hexdigest()
    }


def test_another_size_other_data_and_a_changed_file_are_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_expected", {})
    file = tmp_path / "small.vec"
    write(file, ["the", "light"], 8)
    loaded = zoo.datasets.load("commands")
    for size in (64, 128):  # the default too, if it is asked for
        message = rf"^embedding_dim is {size}; the word vectors '.*' have 8 values\. Leave embedding_dim out\.$"
        with pytest.raises(zoo.UsageError, match=message):
            loaded.prepare("embedding_lstm", word_vectors=str(file), embedding_dim=size)
    with pytest.raises(zoo.UsageError, match=r"^word_vectors=.* needs texts; data set 'digit_rows' has none .* Leave"):
        zoo.datasets.load("digit_rows").prepare("attention", word_vectors=str(file))
    recorded = loaded.prepare("embedding_lstm", word_vectors=str(file)).pretrained
    chosen = {"word_vectors": str(file)}
    assert checkpoints.pinned(zoo.get_spec("embedding_lstm"), chosen, recorded) == (chosen, {})  # as a run that resumes
    loaded.prepare("embedding_lstm", word_vectors=str(file))
    write(file, ["the", "light", "on"], 8)
    with pytest.raises(zoo.UsageError, match=r"^word vectors small\.vec has other weights than the run recorded"):
        loaded.prepare("embedding_lstm", word_vectors=str(file))


@pytest.mark.slow
def test_a_trained_model_needs_no_file(tmp_path):
    file = tmp_path / "small.vec"
    write(file, ["the", "light", "turn", "on"], 8)
    run = tmp_path / "run"
    arguments = {"word_vectors": str(file)}
    zoo.run(
        "embedding_lstm",
        "commands",
        run_directory=run,
        config={"epochs": 1},
        model_arguments=arguments,
        baselines="none",
    )
    assert "word_vectors" in (run / "config.yaml").read_text()
    file.unlink()
    assert zoo.load(run).predict(["turn the light on"])[0]["class_name"]
    facts = (run / "saved_model" / "1" / "assets.extra" / "zoo.json").read_text()
    assert "word vectors small.vec" in facts
    assert str(tmp_path) not in facts
