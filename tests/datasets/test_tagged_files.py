"""CoNLL files and JSON lines of tagged sentences."""

from __future__ import annotations

import gzip
import json

import pytest

import zoo
from zoo.datasets.sources.splitting import undivided

CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

# a comment of a line
Peter NNP B-NP B-PER
#win NN B-NP O
. . O O


-DOCSTART-
 Blackburn\tNNP  B-NP I-PER
"""

CONLLU = """# newdoc id = 1
# sent_id = 1
# text = Don't go.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\tSpaceAfter=No
3.1\tgone\tgo\tVERB\t_\t_\t_\t_\t_\t_
4\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_

# text = 1 000 #tags
1\t1 000\t1000\tNUM\tCD\t_\t0\troot\t_\t_
2\t#tags\ttag\tNOUN\tNNS\t_\t1\tdep\t_\t_
"""


def load(path, text, kind="conll", **options):
    """Returns the sentences of a file as (words, tags, text), in its order, and the data set."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with undivided():
        data = zoo.datasets.load(f"{kind}:{path}", **options)
    rows = data.splits["test"].dataset().as_numpy_iterator()
    names = data.class_names
    found = [
        ([w.decode() for w in e["tokens"]], [names[t] for t in e["tags"]], e.get("text", b"").decode()) for e in rows
    ]
    return found, data


def test_the_four_columns_of_conll_2003(tmp_path, capsys):
    found, data = load(tmp_path / "a.txt", CONLL_2003)
    assert found == [
        (["EU", "rejects"], ["B-ORG", "O"], ""),
        (["Peter", "#win", "."], ["B-PER", "O", "O"], ""),
        (["Blackburn"], ["I-PER"], ""),
    ]
    assert data.tasks == ("tagging",) and "text" not in data.features
    assert "0 (token) has the words, 3 (ner) the tags" in capsys.readouterr().out
    for columns in ({"tags": "chunk"}, {"tokens": 0, "tags": 2}, {"tags": -2}, {"tags": "2"}):
        assert load(tmp_path / "a.txt", CONLL_2003, columns=columns)[0][0][1] == ["B-NP", "B-VP"]
    found, _ = load(tmp_path / "b.txt", "10\u00a0000 B-X\n# O\n# note\n. O\n")
    assert found == [(["10\u00a0000", "#", "."], ["B-X", "O", "O"], "")]


def test_further_files_are_splits_and_options_are_recorded(tmp_path):
    for name, count in (("train", 30), ("dev", 4), ("test", 5)):
        (tmp_path / f"{name}.conll").write_text("".join(f"w{name}{i} B-X\n. O\n\n" for i in range(count)))
    given = {"validation": "dev.conll", "test": "test.conll", "columns": {"tags": 1}}
    data = zoo.datasets.load(f"conll:{tmp_path}/train.conll", **given)
    assert {role: split.num_examples for role, split in data.splits.items()} == {
        "train": 30,
        "validation": 4,
        "test": 5,
    }
    assert data.arguments == given and "dev.conll (validation)" in data.source
    data = zoo.datasets.load(f"conll:{tmp_path}/train.conll")
    assert {role: split.num_examples for role, split in data.splits.items()} == {
        "train": 24,
        "validation": 3,
        "test": 3,
    }
    latin = load(tmp_path / "a.conll", "café B-X\nM O\n".encode("latin-1"), encoding="latin-1")
    assert latin[0][0][0] == ["café", "M"] and latin[1].arguments == {"encoding": "latin-1"}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("EU B-ORG\nrejects\n. O\n", {}, r"a.conll line 2 has 1 column, 'rejects'; expected 2, separated by spaces"),
        ("A O\n\nNew York B-LOC\nB O\n", {}, r"line 3 has 3 columns, 'New York B-LOC'; expected 2.*Correct the line"),
        ("a\tO\nb\t\n", {}, r"a.conll line 2 has an empty tag\. Correct the line"),
        ("a\tO\n\tO\n", {}, r"a.conll line 2 has an empty word\. Correct the line"),
        ("a\nb\n", {}, r"a.conll line 1 has one column, 'a'; expected a word and its tag.*Choose a file with both"),
        ("\n# nothing\n", {}, r"a.conll has no line with a word\. Choose a file with a word per line"),
        ("a O\n\nb O\n", {}, r"has only one class, 'O'; expected two or more"),
        ("a X\nb Y\n", {"columns": {"tags": 2}}, r"has no column 2; it has 2\. Pass a number from 0 to 1 for tags"),
        ("a X\nb Y\n", {"columns": {"tags": "ner"}}, r"no column 'ner'\. Its columns have no names\. Pass a number"),
        ("a b c X\n", {"columns": {"tags": "nerr"}}, r"no column 'nerr'\. Did you mean 'ner'"),
        ("a X\n", {"columns": {"label": 1}}, r"a CoNLL file has tokens and tags\. Pass --data.columns"),
        (b"caf\xe9 O\nb X\n", {}, r"a.conll line 1 is not UTF-8\. Convert the file, or pass --data.encoding"),
        ("a X\nb Y\n", {"encoding": "latin-99"}, r"encoding is 'latin-99', which is no codec of Python\. Pass latin-1"),
        (gzip.compress(b"a O\n", mtime=0), {}, r"a.conll line 1 is not UTF-8"),
        ("a X\nb Y\n", {"test": "b.conll"}, r"Cannot read .*b.conll: No such file.*Did you mean 'a.conll'"),
        ("a X\nb Y\n", {"header": False}, r"takes no header\. Leave it out"),
    ],
)
def test_wrong_conll_files_are_rejected_with_their_line(tmp_path, text, options, message):
    (tmp_path / "a.conll").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load(f"conll:{tmp_path}/a.conll", **options)


def test_json_lines_of_tokens_and_tags(tmp_path):
    rows = [
        {"tokens": ["Paris", "sleeps"], "tags": ["B-LOC", "O"], "text": "Paris sleeps", "id": 1},
        {"tokens": ["yes"], "tags": [None], "text": "yes"},
        {"tokens": ["no"], "tags": ["O"]},
    ]
    text = "\n".join(map(json.dumps, rows)) + "\n\n"
    found, data = load(tmp_path / "a.jsonl", text, "jsonl")
    assert found == [(["Paris", "sleeps"], ["B-LOC", "O"], "Paris sleeps"), (["no"], ["O"], "")]
    assert data.about["left_out"] == {"sentences with a word that has no tag": 1}
    text = '{"words": ["a", "b"], "ner_tags": [1, 0]}\n'
    options = {"columns": {"tokens": "words", "tags": "ner_tags"}, "class_names": ["O", "B-X"]}
    found, data = load(tmp_path / "b.jsonl", text, "jsonl", **options)
    assert found == [(["a", "b"], ["B-X", "O"], "")] and data.arguments == options


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ('{"tokens": ["a", "b"], "tags": ["O"]}', {}, r"line 2 has 2 words and 1 tags; expected a tag for every word"),
        (
            '{"tokens": ["a"], "ner_tags": ["O"]}',
            {},
            r"""no key 'tags'\. Did you mean 'ner_tags'\?.*'{"tags": "ner_tags"}'""",
        ),
        (
            '{"text": "a", "label": "b"}',
            {},
            r"has no key 'tokens', a list\. It has text, label\. Pass csv:FILE instead, which reads",
        ),
        ("x", {}, r"a.jsonl line 2 is not JSON: .*Correct the line"),
        ("[1]", {}, r"a.jsonl line 2 is no object; expected \{\"tokens\""),
        ('{"tokens": "a b", "tags": ["O"]}', {}, r"tokens is 'a b'; expected a list"),
        ('{"tokens": ["a", " "], "tags": ["O", "O"]}', {}, r"word 1 is ' '; expected a string with letters"),
        ('{"tokens": ["a"], "tags": [1.5]}', {}, r"tag 0 is 1.5; expected a string or a number"),
        (
            '{"tokens": ["a"], "tags": [2]}',
            {"class_names": ["O", "X"]},
            r"tag 0 is 2; class_names has names for 0 to 1",
        ),
        ('{"tokens": ["a"], "tags": ["O"], "text": 3}', {}, r"has the text 3; expected a string"),
        (
            '{"tokens": ["a"], "tags": ["O"]}',
            {"columns": ["a"]},
            r"JSON lines have tokens, tags and perhaps text\. Pass",
        ),
    ],
)
def test_wrong_json_lines_are_rejected_with_their_line(tmp_path, text, options, message):
    with pytest.raises(zoo.UsageError, match=message):
        load(tmp_path / "a.jsonl", '{"tokens": ["z"], "tags": ["B-Z"]}\n' + text, "jsonl", **options)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([["a", "b"]], [["O"]], r"x has 2 words in sentence 0 and y 1 tags; expected a tag for every word\. Correct"),
        ([["a"], []], [["O"], []], r"x\[1\] is \[\]; expected a list of words that is not empty"),
        ([["a"], ["b"]], [["O"]], r"x has 2 examples and y has 1"),
    ],
)
def test_wrong_lists_of_words_and_tags_are_rejected(x, y, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.from_arrays(x, y, task="tagging")
