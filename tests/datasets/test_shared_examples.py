"""Examples that two splits share, and frequent classes that a split lacks: what is printed, and the report."""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd
import pytest

import zoo

TEXTS = np.array([f"message number {number}" for number in range(60)])
LABELS = np.array(["ham", "spam", "spam"] * 20)


def with_arrays(folder):
    return zoo.datasets.load((TEXTS, LABELS), validation=(TEXTS[:7], LABELS[:7]), test=(TEXTS[-5:], LABELS[-5:]))


def with_files(folder):
    for name, rows in (("train", slice(None)), ("validation", slice(7)), ("test", slice(-5, None))):
        pd.DataFrame({"text": TEXTS[rows], "label": LABELS[rows]}).to_csv(folder / f"{name}.csv", index=False)
    return zoo.datasets.load(f"csv:{folder}/train.csv", validation="validation.csv", test="test.csv")


def with_a_table(folder):
    frame = pd.DataFrame({"length": np.arange(60) * 1.5, "sender": ["me", "you"] * 30})
    return zoo.datasets.load((frame, LABELS), validation=(frame[:7], LABELS[:7]), test=(frame[-5:], LABELS[-5:]))


@pytest.mark.parametrize("load", [with_arrays, with_files, with_a_table])
def test_examples_in_train_and_another_split_are_counted(load, tmp_path):
    data = load(tmp_path)
    assert data.about["also_in_train"] == {"validation": 7, "test": 5}
    assert "\nAlso in train: 7 of 7 validation examples, 5 of 5 test examples. Metrics on them say " in repr(data)


def test_splits_that_share_nothing_print_nothing():
    data = zoo.datasets.load((TEXTS[:50], LABELS[:50]), test=(TEXTS[50:], LABELS[50:]))
    assert "also_in_train" not in data.about and "Also in train" not in repr(data)
    assert "also_in_train" not in zoo.datasets.load((TEXTS, LABELS)).about, (
        "our own splits keep equal examples together"
    )


def test_folds_of_shared_examples_share_none():
    data = zoo.datasets.load((TEXTS, LABELS), test=(TEXTS[-5:], LABELS[-5:]), folds=5, fold=0)
    assert "also_in_train" not in data.about


def test_the_report_counts_examples_that_are_also_in_train(tmp_path):
    prepared = with_arrays(tmp_path).prepare("embedding_lstm", embedding_dim=4)
    keras.utils.set_random_seed(0)
    report = zoo.evaluate(prepared.build(), prepared, baselines="none")
    assert report["also_in_train"] == 5
    assert "\n5 test examples are also in train" in zoo.evaluation.summarize(report)
    del report["also_in_train"]
    assert "also in train" not in zoo.evaluation.summarize(report)


def test_a_frequent_class_of_equal_examples_is_named(capsys):
    texts = np.concatenate([np.array(["hello"] * 12), TEXTS])
    data = zoo.datasets.load((texts, np.concatenate([np.array(["greeting"] * 12), LABELS])))
    assert data.about["class_counts"]["test"][0] == 0
    printed = capsys.readouterr().out
    assert "Frequent classes without an example: 'greeting' (12 in train, none in validation or test). Equal" in printed
    frame = pd.DataFrame({"text": texts, "label": ["greeting"] * 12 + LABELS.tolist()})
    zoo.datasets.load(frame)
    assert "'greeting' (12 in train, none in validation or test)" in capsys.readouterr().out
    zoo.datasets.load((TEXTS, LABELS))
    assert "Frequent classes" not in capsys.readouterr().out
