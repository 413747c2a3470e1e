"""Tagging by characters: languages without spaces, whose words no tokenizer of the served graph finds."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import tensorflow as tf

import zoo
from selection import slow
from zoo.datasets.preprocessing.tagged_tokens import characters, places_of_characters

CITIES, PEOPLE = ("北京", "上海", "乌鲁木齐"), ("小红", "李雷", "韩")


def write_conll(file, unit, count=120):
    """Writes sentences of Chinese words with IOB2 tags, one word or one character a line."""
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(count):
        for word, kind in (
            (rng.choice(PEOPLE), "PER"),
            (rng.choice(["去了", "喜欢", "在"]), ""),
            (rng.choice(CITIES), "LOC"),
            (rng.choice(["。", "！"]), ""),
        ):
            for place, part in enumerate([word] if unit == "word" else word):
                tag = f"{'I' if place else 'B'}-{kind}" if kind else "O"
                lines.append(f"{part} {tag}")
        lines.append("")
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_words_and_characters_of_a_file_become_the_same_tagged_characters(tmp_path, capsys):
    rows = []
    for unit in ("word", "character"):
        data = zoo.datasets.load(f"conll:{write_conll(tmp_path / f'{unit}.conll', unit)}")
        assert data.arguments["tokenizer"] == "characters"
        assert data.class_names == ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
        examples = [e for split in data.splits.values() for e in split.dataset().as_numpy_iterator()]
        found = [([w.decode() for w in e["tokens"]], e["tags"].tolist(), e["text"].decode()) for e in examples]
        assert all("".join(letters) == text for letters, _, text in found)
        rows.append(sorted(found))
    assert rows[0] == rows[1]
    printed = capsys.readouterr().out
    assert printed.count("tokenizer characters: 100% of the letters are of scripts without spaces.") == 2
    assert zoo.datasets.load(data).about["notes"] == data.about["notes"] and len(data.about["notes"]) == 2
    assert capsys.readouterr().out == "", "the lines were printed when it was loaded"
    with pytest.raises(zoo.UsageError, match=r"tokenizer is 'subwords', but .* expected words, characters or auto"):
        zoo.datasets.load(f"conll:{tmp_path}/word.conll", tokenizer="subwords")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["S-LOC", "O", "B-PER", "E-PER"], "B-LOC E-LOC O O B-PER I-PER E-PER"),
        (["U-LOC", "O", "B-PER", "L-PER"], "B-LOC L-LOC O O B-PER I-PER L-PER"),
        (["I-LOC", "O", "I-PER", "I-PER"], "I-LOC I-LOC O O I-PER I-PER I-PER"),
        (["NR", "P", "NN", "NN"], "NR NR P P NN NN NN"),
    ],
)
def test_tags_are_continued_in_their_scheme(tags, expected):
    rows = [["北京", "no", "小红", "韩", str(number)] for number in range(10, 40)]
    data = zoo.datasets.load((rows, [[*tags, tags[1]]] * 30), tokenizer="characters")
    example = next(data.train.as_numpy_iterator())
    assert " ".join(data.class_names[tag] for tag in example["tags"][:-2]) == expected
    text = example["text"].decode()
    assert text.startswith("北京 no 小红韩 "), "only letters without spaces are joined without them"


def test_characters_and_their_places_are_those_of_the_text():
    texts = ["我 在\u200bRom 。", "", " \t", "e\u0301😀", "好" * 300]
    found = characters(tf.constant(texts), 90)
    starts, ends = (part.numpy() for part in places_of_characters(tf.constant(texts), found.to_tensor()))
    for row, text in enumerate(texts):
        expected = [i for i, letter in enumerate(text) if unicodedata.category(letter)[0] not in "ZC"][:90]
        assert [token.decode() for token in found[row].numpy()] == [text[i] for i in expected]
        assert starts[row, : len(expected)].tolist() == expected and not ends[row, len(expected) :].any()
        assert ends[row, : len(expected)].tolist() == [i + 1 for i in expected]


def test_a_served_text_without_spaces_is_tagged_character_by_character(tmp_path):
    data = zoo.datasets.load(f"conll:{write_conll(tmp_path / 'a.conll', 'word')}")
    prepared = data.prepare("rnn", embedding_dim=4, rnn_units=4)
    inputs, extras = prepared.preprocessor.serve({"text": ["小红在北京。"]})
    assert [token.decode() for token in extras["tokens"].numpy()[0]] == [*"小红在北京。"]
    assert inputs["token_ids"].shape == (1, 6) and (inputs["token_ids"].numpy() > 1).all(), "every character is known"
    report = zoo.evaluate(prepared.build(seed=0), prepared, baselines=["linear tagger"])
    assert report["words_found"] == 1 and report["raw_text_accuracy"] == pytest.approx(report["accuracy"])
    assert report["raw_text_entity_f1"] == pytest.approx(report["entity_f1"])


@pytest.mark.parametrize("model", [slow("rnn"), slow("bert")])
def test_a_savedmodel_answers_entities_of_texts_without_spaces(model, tmp_path):
    arguments, options = {
        "rnn": ({"rnn_units": 16, "embedding_dim": 16}, {"epochs": 12, "learning_rate": 0.02}),
        "bert": (
            {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 64, "max_length": 24},
            {"epochs": 25, "learning_rate": 3e-3, "batch_size": 16},
        ),
    }[model]
    result = zoo.run(
        model,
        f"conll:{write_conll(tmp_path / 'a.conll', 'word')}",
        config={"seed": 0, **options},
        model_arguments=arguments,
        run_directory=tmp_path / "run",
    )
    assert result.report["raw_text_entities"]["f1"] > 0.95
    (answer,) = zoo.load(tmp_path / "run").predict(["李雷喜欢乌鲁木齐！"])
    assert [*answer["entities"]] == ["李雷", "乌鲁木齐"] and [*answer["entity_types"]] == ["PER", "LOC"]
    assert [*answer["entity_starts"]] == [0, 4] and [*answer["entity_ends"]] == [2, 8]
