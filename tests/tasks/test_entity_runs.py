"""Taggers of entities from a CoNLL file to a verified SavedModel, which answers them for raw texts."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from selection import slow

CITIES, PEOPLE = ("Paris", "New York", "Köln", "São Paulo"), ("Jo Lee", "Mia", "O'Brien", "Ada Ng")


def write_conll(file, count=120):
    """Writes sentences about people and cities, in IOB2."""
    rng = np.random.default_rng(0)
    with file.open("w", encoding="utf-8") as out:
        for _ in range(count):
            person, city = rng.choice(PEOPLE), rng.choice(CITIES)
            verb = rng.choice(["visits", "likes", "left", "saw"])
            for text, kind in ((person, "PER"), (verb, ""), (city, "LOC"), (rng.choice([".", "!"]), "")):
                for place, word in enumerate(text.split()):
                    tag = f"{'I' if place else 'B'}-{kind}" if kind else "O"
                    out.write(f"{word} {tag}\n")
            out.write("\n")
    return file


SMALL = {"rnn": {"rnn_units": 16, "embedding_dim": 16}, "bert": {"hidden_size": 32, "num_layers": 1, "num_heads": 2}}
OPTIONS = {
    "rnn": {"epochs": 12, "learning_rate": 0.02},
    "bert": {"epochs": 25, "learning_rate": 3e-3, "batch_size": 16},
}


@pytest.mark.parametrize("model", ["rnn", slow("bert")])
def test_a_savedmodel_answers_entities_for_raw_texts(model, tmp_path, capsys):
    write_conll(tmp_path / "a.conll")
    more = {"intermediate_size": 64, "max_length": 24} if model == "bert" else {}
    result = zoo.run(
        model,
        f"conll:{tmp_path}/a.conll",
        config={"seed": 0, **OPTIONS[model]},
        model_arguments={**SMALL[model], **more},
        run_directory=tmp_path / "run",
    )
    printed = capsys.readouterr().out
    assert "entities (IOB2)" in printed and "linear tagger" in printed and "verified" in printed
    assert result.report["entities"]["f1"] > 0.95 and set(result.report["entities"]["by_type"]) == {"LOC", "PER"}
    loaded = zoo.load(tmp_path / "run")
    texts = ["  Jo Lee visits São Paulo!", "Mia saw Köln .", ""]
    found = loaded.predict(texts)
    for text, answer in zip(texts, found, strict=True):
        rows = zip(
            *(answer[f"entity_{part}"] for part in ("types", "starts", "ends", "probabilities")),
            answer["entities"],
            strict=True,
        )
        real = [row for row in rows if row[2] > 0]
        assert [text[start:end] for _, start, end, _, _ in real] == [written for *_, written in real]
        assert all(0 < probability <= 1 for *_, probability, _ in real)
    kinds = [[kind for kind in answer["entity_types"] if kind] for answer in found]
    assert kinds == [["PER", "LOC"], ["PER", "LOC"], []]
    assert list(found[0]["entities"])[:2] == ["Jo Lee", "São Paulo"]
    card = (tmp_path / "run" / "saved_model" / "1" / "README.md").read_text(encoding="utf-8")
    assert "entity_starts" in card and "in Unicode characters and not in bytes" in card


def test_the_line_of_a_prediction_lists_entities_or_words_with_tags():
    shown = zoo.tasks.get_task("tagging").signatures["serving_default"].shown
    answer = {"tokens": ["Mia", "left"], "tags": ["B-PER", "O"]}
    assert shown.format(answer, []) == "Mia/B-PER left/O"
    names = ("entities", "entity_types", "entity_probabilities", "entity_starts", "entity_ends")
    for values, expected in (
        ((["Mia", ""], ["PER", ""], [0.5, 0.0], [0, 0], [3, 0]), "Mia PER 0.5000 (0 to 3)"),
        (([""], [""], [0.0], [0], [0]), "no entity"),
    ):
        assert shown.format({**answer, **dict(zip(names, values, strict=True))}, []) == expected
