"""Text embedding: the loss, the order of pairs, the report, and the search of an exported corpus."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from sklearn.neighbors import NearestNeighbors

import zoo
from zoo import corpus_search
from zoo.datasets.shuffling import shuffled
from zoo.datasets.sources.corpora import read_corpus
from zoo.evaluation.retrieval import retrieval_report
from zoo.export import artifact
from zoo.export.standalone.compare import compare
from zoo.metrics import ContrastiveLoss
from zoo.recommended.texts import contrastive_tuning, fine_tuning
from zoo.registry import Situation

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_layers": 1}

# --- The loss ---------------------------------------------------------------------------------------------------------


def reference_loss(labels, vectors, scale: float = 20.0) -> list[float]:
    """The loss of every text in loops and float64."""
    unit = [v / np.linalg.norm(v) for v in np.asarray(vectors, np.float64)]
    losses, count = [], 0
    for i, one in enumerate(unit):
        scores = {j: scale * float(one @ other) for j, other in enumerate(unit) if j != i}
        total = np.log(sum(np.exp(score) for score in scores.values()))
        alike = [scores[j] - total for j in scores if labels[j] == labels[i]]
        losses.append(-float(np.mean(alike)) if alike else 0.0)
        count += bool(alike)
    return [loss * len(unit) / max(count, 1) for loss in losses]


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2], [0, 1, 2, 3, 4, 5]])
def test_the_loss_equals_loops(labels):
    vectors = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    ours = ContrastiveLoss(reduction=None)(np.array(labels), vectors).numpy()
    np.testing.assert_allclose(ours, reference_loss(labels, vectors), rtol=2e-5, atol=1e-6)


def test_of_separate_pairs_it_is_the_cross_entropy_of_the_partner():
    """Multiple negatives ranking in both directions: the partner is the only right text among all others."""
    vectors = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = 20.0 * unit @ unit.T - 1e9 * np.eye(8, dtype=np.float32)
    partner = np.arange(8) ^ 1
    want = tf.nn.sparse_softmax_cross_entropy_with_logits(partner, scores)
    np.testing.assert_allclose(ContrastiveLoss(reduction=None)(np.arange(8) // 2, vectors), want, rtol=1e-5)


# --- Batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_length", [False, True])
def test_texts_of_a_label_stand_next_to_each_other(by_length):
    labels = np.random.default_rng(0).integers(0, 7, 101)
    mask = np.arange(9) < np.random.default_rng(1).integers(1, 10, (101, 1))
    rows = {"padding_mask": tf.constant(mask.astype(np.int32))}, {"label": tf.constant(labels)}, {}
    order = shuffled(rows, 0, 0, 8, by_length, "label")
    assert sorted(order) == list(range(101))
    left = int(sum(np.bincount(labels) % 2))
    pairs = labels[order[: len(order) - left]].reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all() and left < 8
    again, other = (shuffled(rows, 0, epoch, 8, by_length, "label") for epoch in (0, 1))
    assert (order == again).all() and (order != other).any()


def test_batches_that_are_compared_are_not_divided_or_streamed():
    data = zoo.datasets.load("commands")
    prepared = data.prepare("sentence_bert", **SMALL)
    with pytest.raises(
        zoo.UsageError, match=r"^the loss of text_embedding: one number for a whole batch, but a batch is div"
    ):
        zoo.train(prepared.build(), prepared, zoo.TrainConfig(epochs=1, accumulation_steps=2), verbose=0)
    small = zoo.datasets.load("commands", memory_limit=1000).prepare("sentence_bert", **SMALL)
    with pytest.raises(
        zoo.UsageError, match=r"next to each other, so it needs the train split in memory.*Pass a larger memory_limit\."
    ):
        small.batches("train", 8, seed=0)


def test_pairs_of_a_csv_file_are_two_texts_of_a_number(tmp_path):
    rows = [f"question {i},answer {i}" for i in range(40)] + ["question 7,another answer"]
    (tmp_path / "pairs.csv").write_text("\n".join(["text,text_pair", *rows]) + "\n")
    data = zoo.datasets.load(f"csv:{tmp_path / 'pairs.csv'}")
    assert data.tasks == ("text_embedding",) and data.class_names == ()
    groups: dict[int, set[bytes]] = {}
    for split, part in data.splits.items():
        for example in part.dataset().as_numpy_iterator():
            groups.setdefault(int(example["label"]), set()).add(example["text"])
            assert split in data.splits
    assert groups[next(k for k, v in groups.items() if b"question 7" in v)] == {
        b"question 7",
        b"answer 7",
        b"another answer",
    }
    assert sorted(len(texts) for texts in groups.values()) == [2] * 39 + [3]
    labelled = "text,text_pair,label\n" + "".join(f"a {i},b {i},{'yes' if i % 2 else 'no'}\n" for i in range(40))
    (tmp_path / "labelled.csv").write_text(labelled)
    labelled = zoo.datasets.load(f"csv:{tmp_path / 'labelled.csv'}")
    assert labelled.tasks == ("text_classification",)
    with pytest.raises(
        zoo.UsageError, match=r"has labels of pairs of texts; expected labels of single texts, or pairs"
    ):
        labelled.prepare("sentence_bert", **SMALL)


# --- The report -------------------------------------------------------------------------------------------------------


def test_the_report_equals_scikit_learn():
    rng = np.random.default_rng(0)
    labels, vectors = rng.integers(0, 20, 200), rng.normal(size=(200, 6)).astype(np.float32)
    labels[0] = 99  # alone
    report = retrieval_report(labels, vectors)
    found = NearestNeighbors(n_neighbors=200, metric="cosine").fit(vectors).kneighbors(vectors, return_distance=False)
    ranks = []
    for i, row in enumerate(found):
        others = [j for j in row if j != i]
        ranks += [1 + next(n for n, j in enumerate(others) if labels[j] == labels[i])] if labels[i] != 99 else []
    ranks = np.array(ranks)
    assert report["num_examples"] == len(ranks) == 199
    assert report["recall_at_1"] == pytest.approx((ranks == 1).mean())
    assert report["recall_at_10"] == pytest.approx((ranks <= 10).mean())
    assert report["mrr"] == pytest.approx(np.where(ranks <= 10, 1 / ranks, 0).mean())


def test_labels_that_never_repeat_are_rejected():
    with pytest.raises(
        zoo.UsageError, match=r"^No two texts of the split have the same label\. Pass more texts of each"
    ):
        retrieval_report([0, 1, 2], np.eye(3))
    with pytest.raises(
        zoo.UsageError, match=r"^received labels \(3,\) and vectors \(2, 2\); expected a vector for each"
    ):
        retrieval_report([0, 1, 1], np.eye(2))


# --- Recommended options ----------------------------------------------------------------------------------------------


def test_published_weights_get_options_for_fine_tuning():
    def at(**arguments):
        return fine_tuning(Situation("text_classification", 15_000, arguments))

    assert at(weights=None) == {} == contrastive_tuning(Situation("text_embedding", 100, {}))
    rates = {size: at(weights="a", hidden_size=size)["learning_rate"] for size in (128, 384, 768, 1024)}
    assert rates == {128: 2e-4, 384: 2e-4, 768: 5e-5, 1024: 2.8e-5}
    assert at(weights="a")["epochs"] < fine_tuning(Situation("text_classification", 500, {"weights": "a"}))["epochs"]
    completed = zoo.TrainConfig(learning_rate=1e-5, optimizer="sgd").completed(at(weights="a"))
    assert (completed.learning_rate, completed.optimizer, completed.schedule) == (1e-5, "sgd", "linear")


# --- Search -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A small encoder, its corpus with repeated texts, and the exported module."""
    folder = tmp_path_factory.mktemp("search")
    prepared = zoo.datasets.load("commands").prepare("sentence_bert", **SMALL)
    model = prepared.build(seed=0)
    texts = [example["text"].decode() for example in prepared.data.train.take(60).as_numpy_iterator()]
    lines = [*texts, "", *texts[:5], texts[7].upper()]
    (folder / "lines.txt").write_text("\n".join(lines) + "\n")
    preprocessor = corpus_search.with_corpus(model, prepared.preprocessor, f"lines:{folder / 'lines.txt'}")
    interface = prepared.interface
    interface = type(interface)(**{**interface.__dict__, "preprocessor": preprocessor})
    saved = artifact.save(model, folder / "out", interface=interface)
    return lines, tf.saved_model.load(str(saved)), saved


def test_search_equals_numpy(searched):
    lines, module, saved = searched
    signatures = module.signatures
    vectors = signatures["serving_default"](text=tf.constant([line for line in lines if line]))["embedding"].numpy()
    numbers = [str(n) for n, line in enumerate(lines, 1) if line]
    queries = ["turn the radio off", "is the door open?", lines[7].upper()]
    answer = signatures["search"](text=tf.constant(queries))
    asked = signatures["serving_default"](text=tf.constant(queries))["embedding"].numpy()
    assert answer["score"].shape == (3, 10)
    for row, one in enumerate(asked.astype(np.float64)):
        scores = vectors.astype(np.float64) @ one
        best = np.argsort(-np.round(scores, 5), kind="stable")[:10]
        assert [n.decode() for n in answer["id"][row].numpy()] == [numbers[i] for i in best]
        np.testing.assert_allclose(answer["score"][row], scores[best], atol=1e-5)
        assert [t.decode() for t in answer["text"][row].numpy()] == [lines[int(numbers[i]) - 1] for i in best]
    pair = signatures["similarity"](text=tf.constant(queries[:2]), text_pair=tf.constant(queries[1:]))["similarity"]
    np.testing.assert_allclose(pair, [asked[0] @ asked[1], asked[1] @ asked[2]], atol=1e-5)
    assert "66 texts of lines:lines.txt" in (saved / "README.md").read_text()


def test_the_corpus_is_read_whole_and_in_order(tmp_path):
    (tmp_path / "a.csv").write_text('id,text\nx1,first one\nx2,"two\nlines"\nx3,\n')
    corpus = read_corpus(f"csv:{tmp_path / 'a.csv'}")
    assert (corpus.name, corpus.ids, corpus.texts) == ("csv:a.csv", ("x1", "x2"), ("first one", "two lines"))
    for content, message in (
        ("text\na\n", r"has the columns text; expected id and text\. Rename the columns"),
        ("id,text\n1,a\n1,b\n", r"row 2 has the id '1' a second time; expected an id of its own"),
        ("id,text\n,a\n", r"row 1 has no id; expected an id of its own for each text\. Correct it"),
    ):
        (tmp_path / "b.csv").write_text(content)
        with pytest.raises(zoo.UsageError, match=message):
            read_corpus(f"csv:{tmp_path / 'b.csv'}")
    (tmp_path / "empty.txt").write_text("\n\n")
    for name, message in (
        (
            "faq.txt",
            r"^The corpus is 'faq\.txt'; expected lines:FILE, a text on each line, or csv:FILE with the columns",
        ),
        ("lines:nowhere.txt", r"^nowhere\.txt is not a file, so there is no corpus\. Pass lines:FILE"),
        (f"lines:{tmp_path / 'empty.txt'}", r"has no text\. Pass a file with texts to search"),
    ):
        with pytest.raises(zoo.UsageError, match=message):
            read_corpus(name)
    prepared = zoo.datasets.load("commands").prepare("transformer", embedding_dim=8, num_heads=1, feed_forward_dim=8)
    with pytest.raises(
        zoo.UsageError, match=r"^A corpus is for text encoders; 'transformer' is none\. Leave the corpus out"
    ):
        corpus_search.with_corpus(prepared.build(), prepared.preprocessor, f"lines:{tmp_path / 'a.csv'}")


def test_ties_of_a_ranking_are_no_difference_and_other_texts_are():
    def rows(want, have, scores):
        found = {"id": np.array(have, object), "score": np.array(scores, np.float32)}
        expected = {"id": np.array(want, object), "score": np.array(scores, np.float32)}
        return next(row for row in compare(expected, found, [], 1e-5) if row["output"] == "id")

    near, apart = [[0.9, 0.8, 0.8, 0.5]], [[0.9, 0.8, 0.7, 0.5]]
    a, swapped, other = [[b"a", b"b", b"c", b"d"]], [[b"a", b"c", b"b", b"d"]], [[b"a", b"c", b"x", b"d"]]
    assert rows(a, swapped, near)["passed"] and rows(a, swapped, near)["ties"] == 2
    assert not rows(a, swapped, apart)["passed"] and not rows(a, other, near)["passed"]
    last = [[b"a", b"b", b"c", b"x"]]
    assert rows(a, last, apart)["passed"], "the score of the text that took its place is unknown"
    assert not rows(a * 20, last * 20, apart * 20)["passed"], "in many rows it is no tie"
