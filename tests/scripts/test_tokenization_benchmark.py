"""`zoo benchmark tokenization`: contenders with different outputs are not measured."""

from __future__ import annotations

import csv
import re
import subprocess
import sys

import pytest

import zoo
from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.mark.slow
def test_tokenization_is_measured(tmp_path):
    """Runs in a separate process, because it sets the number of TensorFlow's threads."""
    file = tmp_path / "figures.csv"
    words = ["benchmark", "tokenization", "--batch_sizes", "1", "200", "--seconds", "0.01", "--output", str(file)]
    source = "import sys; from zoo.scripts import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-P", "-c", source, *words], capture_output=True, text=True, check=True)
    assert "| tokenizer | data | batch | SavedModel of zoo |" in done.stdout and "140 texts of" in done.stdout
    assert re.search(r"^\| wordpiece \| commands \| 200 \| [\d,]+ \| [\d,]+ \(x[\d.]+\) \|", done.stdout, re.MULTILINE)
    figures = list(csv.DictReader(file.open()))
    assert [(row["batch"], row["contender"]) for row in figures] == [
        (batch, name) for batch in ("1", "200") for name in ("zoo", "tokenizers", "transformers")
    ]
    assert all(float(row["texts_per_second"]) > 0 for row in figures)


def test_a_contender_with_different_outputs_is_not_measured():
    from zoo.scripts.benchmarks.tokenization import check_alike, library_encoder

    pieces = (*SPECIAL, "a", "b")
    ours = WordPiecePreprocessor((*SPECIAL, "b", "a"), 8)
    with pytest.raises(
        zoo.UsageError, match=r"tokenizers converts the text 'a' to \[2, 5, 3\], the SavedModel to \[2, 6, 3\]"
    ):
        check_alike({"zoo": ours, "tokenizers": library_encoder(pieces)}, ["a"])
