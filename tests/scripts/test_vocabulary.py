"""`zoo vocabulary`: subword tokens trained on the texts of a data set or of files."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import zoo
from zoo.checkpoints.wordpiece_files import read_pieces
from zoo.datasets.preprocessing.vocabularies import train_pieces
from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor
from zoo.scripts import cli

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


# --- Vocabularies ----------------------------------------------------------------------------------------------------

TRAINING = """
import sys
from zoo.datasets.preprocessing.vocabularies import train_pieces
texts = [f"{chr(0x4e00 + i * 7 % 3000)} word{i % 97} {i % 89}ing" for i in range(4000)]
if sys.argv[1] == "backwards":
    texts.reverse()
print(ascii(train_pieces(texts, 1500)))
"""


@pytest.mark.slow
def test_training_is_reproducible():
    said = set()
    for order, threads in (("forwards", "1"), ("backwards", "4")):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads}
        words = [sys.executable, "-P", "-c", TRAINING, order]
        said.add(subprocess.run(words, check=True, capture_output=True, env=environment).stdout)
    (pieces,) = map(eval, said)
    assert pieces[:5] == SPECIAL and "word" in pieces and len(pieces) <= 1500


def test_vocabularies_are_trained_on_the_training_split():
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


def test_a_spec_can_select_the_preprocessor(monkeypatch):
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


def test_vocabularies_are_trained_on_data_sets_and_files(tmp_path, capsys):
    file = tmp_path / "new" / "vocab.txt"
    assert cli.main(["vocabulary", "--data", "commands", "--size", "120", "--path", str(file)]) == 0
    said = capsys.readouterr().out
    assert (
        f"{file}: {len(read_pieces(file)):,} subword tokens from 720 texts." in said
        and "words in the test split, 0." in said
    )
    texts = tmp_path / "texts.txt"
    texts.write_text("Low Lower\nlowest\n\n" * 20 + "unseen ß\n")
    again = tmp_path / "again.txt"
    assert cli.main(["vocabulary", "--files", str(texts), "--cased", "--size", "40", "--path", str(again)]) == 0
    assert "Of 10 words in every tenth line, not used for training, " in (said := capsys.readouterr().out), said
    assert "Low" in read_pieces(again)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Neither --data nor --files was given; expected one of them"),
        (["--data", "commands", "--files", "x"], "Both --data and --files were given"),
        (["--files", "nowhere.txt"], "Cannot read nowhere.txt"),
        (["--data", "digits"], "Data set 'digits' has image, label and no text"),
        (["--data", "commands", "--size", "6"], "Cannot train a vocabulary of 6 tokens"),
        (["--data", "commands", "--sise", "6"], "Unknown option --sise"),
    ],
)
def test_errors_are_reported_in_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["vocabulary", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_existing_vocabulary_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "vocab.txt").write_text("mine")
    assert cli.main(["vocabulary", "--data", "commands", "--path", str(tmp_path / "vocab.txt")]) == 2
    assert "already exists. Pass another --path" in capsys.readouterr().err
    assert (tmp_path / "vocab.txt").read_text() == "mine"
