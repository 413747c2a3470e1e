"""The translation report compared with sacreBLEU."""

from __future__ import annotations

import pytest

import zoo
from translation_texts import ENGLISH, FRENCH
from zoo.evaluation.translation import nearest_answers, summary, translation_report


def test_report_equals_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    answers = ["Va !", "Ça alors !", "J'ai 18 ans et toi ?", "rien", "Arrête-toi !", "Je l'ai emporté.", "Œuvre, cœur "]
    report = translation_report(ENGLISH, FRENCH, answers, train_sources=["Go!", "Stop."], train_references=["A", "B"])
    assert report["bleu"] == pytest.approx(sacrebleu.corpus_bleu(answers, [FRENCH]).score)
    assert report["chrf"] == pytest.approx(sacrebleu.corpus_chrf(answers, [FRENCH]).score)
    assert report["exact_match"] == pytest.approx(1 / 7) and report["num_examples"] == 7
    nearest = nearest_answers(ENGLISH, ["Go!", "Stop."], ["A", "B"])
    assert nearest[0] == "A" and nearest[4] == "B"
    assert report["baseline"]["bleu"] == pytest.approx(sacrebleu.corpus_bleu(nearest, [FRENCH]).score)
    assert report["samples"][0] == {"source": "Go.", "reference": "Va !", "answer": "Va !"}
    assert "tok:13a" in report["signature"]
    assert summary(report).startswith(f"BLEU {report['bleu']:.1f}, chrF") and "nearest training sentence" in summary(
        report
    )


def test_correct_translations_score_100():
    pytest.importorskip("sacrebleu")
    report = translation_report(ENGLISH, FRENCH, FRENCH, train_sources=[], train_references=[], num_samples=0)
    assert report["bleu"] == pytest.approx(100) and report["chrf"] == pytest.approx(100)
    assert report["exact_match"] == 1 and report["baseline"] is None and report["samples"] == []
    assert "nearest" not in summary(report)


def test_ties_between_nearest_sentences_go_to_the_first():
    known, said = ["I run.", "You eat.", "I run."], ["one", "two", "three"]
    assert nearest_answers(["I run!", "you ate", "?", ""], known, said)[:2] == ["one", "two"]
    assert nearest_answers(["Go."] * 600, known, said) == nearest_answers(["Go."], known, said) * 600, "chunk by chunk"
    assert nearest_answers(["a", "b"], ["", " "], ["x", "y"]) == ["x", "x"]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (([], [], [], [], []), "There is no translation to compare"),
        ((["a"], ["b"], [], [], []), "1 sources, 1 references and 0 translations"),
        ((["a"], ["b"], ["c"], ["d"], []), "1 training sources and 0 references"),
    ],
)
def test_empty_and_unequal_lists_are_rejected(lists, message):
    *three, known, said = lists
    with pytest.raises(zoo.UsageError, match=message):
        translation_report(*three, train_sources=known, train_references=said)
