"""Baselines next to a model: the same metrics as scikit-learn alone gives, their limits, and who wins."""

from __future__ import annotations

import dataclasses
import doctest
import json
import re

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

import zoo
from small_tables import cancer, diabetes, linear_model, prepared_numbers, table_data, table_task
from untrained_runs import untrained
from zoo import display
from zoo.datasets.raw import Split
from zoo.evaluation import Figure, baselines, comparison
from zoo.evaluation.baselines import BASELINES, Baseline, tables
from zoo.scores import best_thresholds
from zoo.scripts import cli

LINEAR = ["logistic regression", "HistGradientBoosting"]


@pytest.fixture(autouse=True)
def one_thread():
    """Threads of a busy machine wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def classes(monkeypatch):
    return table_task("classes of a test", "classification", monkeypatch)


@pytest.fixture
def values(monkeypatch):
    return table_task("values of a test", "values", monkeypatch)


def rows(split, data):
    """Returns a split of numbers as scikit-learn takes it: a table and the targets."""
    examples = next(iter(split.batch(10_000)))
    target = examples["label" if data.class_names else "value"].numpy()
    return np.stack([examples[name].numpy() for name in data.about["table"]], axis=1).astype(float), target


def linear(last):
    return make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), last)


def applying(data):
    """The names of the baselines that fit to a data set, also of those that are added later."""
    return [name for name in BASELINES.names() if BASELINES.get(name).applies(data)]


def found(report):
    return {entry["name"]: entry for entry in report["baselines"]}


def test_classes_are_compared_with_scikit_learn_on_the_same_split(classes, tmp_path):
    prepared = prepared_numbers(cancer(), classes)
    report = zoo.evaluate(linear_model(prepared), prepared, directory=tmp_path)
    (x, y), (others, truth) = (rows(split, prepared.data) for split in (prepared.data.train, prepared.data.test))
    entries = found(report)
    assert sorted(entries) == sorted(applying(prepared.data)) and {*entries} >= {*LINEAR}
    models = {
        "logistic regression": linear(LogisticRegression(max_iter=1000)),
        "HistGradientBoosting": HistGradientBoostingClassifier(random_state=0),
    }
    for name, model in models.items():
        model.fit(x, y)
        assert entries[name]["accuracy"] == pytest.approx(model.score(others, truth)), name
        assert entries[name]["fitted_to"] == entries[name]["train_examples"] == len(x)
        ours = set(report) - {"step_accuracy"}
        assert {"log_loss", "roc_auc", "brier", "positive_f1", "macro_f1"} <= set(entries[name]) & ours
    named = {(f["metric"], f["baseline"]): f["baseline_value"] for f in report["headline"]}
    assert named["ROC AUC", LINEAR[0]] == entries[LINEAR[0]]["roc_auc"]
    assert ("accuracy", "the most frequent class") in named and ("F1 of benign", LINEAR[1]) in named
    assert json.loads((tmp_path / "evaluation.json").read_text()) == report
    assert zoo.evaluation.read_report(tmp_path / "evaluation.json") == report


def test_values_are_compared_with_scikit_learn_in_their_own_units(values):
    prepared = prepared_numbers(diabetes(), values)
    report = zoo.evaluate(linear_model(prepared), prepared)
    (x, y), (others, truth) = (rows(split, prepared.data) for split in (prepared.data.train, prepared.data.test))
    models = {
        "ridge regression": linear(Ridge()),
        "HistGradientBoosting": HistGradientBoostingRegressor(random_state=0),
    }
    for name, model in models.items():
        expected = np.abs(model.fit(x, y[:, 0]).predict(others) - truth[:, 0]).mean()
        assert found(report)[name]["mae"] == pytest.approx(expected, rel=1e-5), name
    best = min(found(report).values(), key=lambda entry: entry["mae"])
    gap = display.number_text(report["mae"] - best["mae"])
    assert report["comparison"].endswith(f": {best['name']} is better than this model by {gap}"), "it is not trained"
    assert zoo.evaluation.summarize(report).splitlines()[-1] == report["comparison"]


def test_several_and_logarithmic_values_and_missing_targets(values):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    y = np.exp(np.stack([4 + x[:, 0], 5 + x[:, 1]], axis=1) + rng.normal(0, 0.05, (300, 2)))
    y[:20, 1] = np.nan
    columns = {"a": x[:, 0].astype(np.float32), "b": x[:, 1].astype(np.float32)}
    data = table_data(columns, dict.fromkeys(columns, "number"), y, value_names=("low", "high"), task=values.name)
    linear = BASELINES.get("ridge regression")
    train, test = (comparison.read_columns(data.splits[name]) for name in ("train", "test"))
    logarithms = dataclasses.replace(data, about={**data.about, "log_values": True})
    errors = [
        np.abs(linear.predict(train, test, each)["values"] - test["value"]).mean(axis=0) for each in (data, logarithms)
    ]
    assert np.all(errors[1] < errors[0] / 2), "the relation is linear in the logarithm"


def test_several_labels_are_compared_with_a_model_for_each():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(400, 4))
    frame = pd.DataFrame(x, columns=[*"abcd"])
    tags = {"warm": x[:, 0] > 0.3, "wet": x[:, 0] + x[:, 1] > 1, "windy": draw.random(400) < 0.5}
    frame = frame.assign(**{name: np.where(tag, "yes", "no") for name, tag in tags.items()})
    prepared = zoo.datasets.load(frame, columns={"labels": [*tags]}).prepare("mlp", hidden_units=(2,))
    entries = found(zoo.evaluate(prepared.build(seed=0), prepared))
    assert sorted(entries) == sorted(applying(prepared.data)) and {*entries} >= {*LINEAR}

    def split_of(name):
        columns = baselines.read_columns(prepared.data.splits[name])
        return np.stack([columns[key] for key in "abcd"], axis=1), columns["labels"].astype(int)

    (x, y), (known, right), (others, truth) = map(split_of, ("train", "validation", "test"))
    models = {
        "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "HistGradientBoosting": lambda: HistGradientBoostingClassifier(random_state=0),
    }
    for name, make in models.items():
        fitted = [make().fit(x, y[:, k]) for k in range(3)]
        chances = np.stack([model.predict_proba(others)[:, 1] for model in fitted], axis=1)
        levels = best_thresholds(right, np.stack([model.predict_proba(known)[:, 1] for model in fitted], axis=1))
        assert entries[name]["macro_auc"] == pytest.approx(roc_auc_score(truth, chances, average="macro")), name
        expected = f1_score(truth, chances >= levels, average="micro")
        assert entries[name]["micro_f1"] == pytest.approx(expected, abs=0.01), name


def test_the_model_wins_over_all_that_are_worse(values):
    columns = {"a": np.linspace(-3, 3, 300, dtype=np.float32)[np.random.default_rng(0).permutation(300)]}
    target = np.sin(columns["a"])[:, np.newaxis]
    prepared = prepared_numbers(table_data(columns, {"a": "number"}, target), values)
    inputs = tf.keras.Input((1,), name="numbers")
    scale, preprocessor = prepared.preprocessor.targets, prepared.preprocessor
    wave = tf.keras.layers.Lambda(
        lambda z: (tf.sin(z * preprocessor.spread[0] + preprocessor.center[0]) - scale.mean[0]) / scale.deviation[0],
        name="values",
    )
    report = zoo.evaluate(tf.keras.Model(inputs, wave(inputs)), prepared)
    assert report["comparison"].startswith("MAE of ridge regression")
    assert re.search(r": this model is better than .*, the best of the baselines, by \d", report["comparison"])


KINDS = {
    "age": "number",
    "colour": "category",
    "member": "yes_no",
    "since": "time",
    "note": "text",
    "empty": "number",
    "blank": "category",
}


def mixed(count=600, classes=3, seed=0):
    """A table of all kinds of columns with missing cells; the class depends on the colour, the note and the month."""
    rng = np.random.default_rng(seed)
    colour = rng.choice(["red", "green", "blue", ""], count)
    words = rng.choice(["cheap", "dear"], count)
    month = rng.integers(0, 12, count)
    label = np.minimum(1 * (colour == "red") + (words == "dear") + (month < 6), classes - 1)
    columns = {
        "age": np.where(rng.random(count) < 0.1, np.nan, rng.normal(40, 9, count)).astype(np.float32),
        "colour": np.array([c.encode() for c in colour], object),
        "member": rng.choice([0, 1, np.nan], count).astype(np.float32),
        "since": np.where(rng.random(count) < 0.05, np.nan, month * 2_629_746.0 + 86_400),
        "note": np.array([f"a {w} thing é".encode() for w in words], object),
        "empty": np.full(count, np.nan, np.float32),
        "blank": np.full(count, b"", object),
    }
    columns["age"][0] = np.inf
    return columns, label


def test_columns_of_every_kind_and_missing_cells_are_used(classes):
    columns, label = mixed()
    data = table_data(columns, KINDS, label, class_names=("a", "b", "c"), task=classes.name)
    train, test = (comparison.read_columns(data.splits[name]) for name in ("train", "test"))
    frame, kinds = tables.frame(train, data)
    assert kinds["category"] == ["colour", "since: month", "since: weekday", "since: hour", "blank"]
    assert kinds["text"] == ["note"] and kinds["number"] == ["age", "member", "since", "empty"]
    assert np.isnan(frame["age"][0]) and set(frame["since: month"]) == {*map(str, range(1, 13)), ""}
    for name in LINEAR:
        predictions = BASELINES.get(name).predict(train, test, data)["probabilities"]
        np.testing.assert_allclose(predictions.sum(axis=1), 1, atol=1e-6)
        accuracy = (predictions.argmax(axis=1) == test["label"]).mean()
        assert accuracy > 0.95, (name, accuracy)


def test_one_hot_categories_equal_scikit_learn(classes):
    columns, label = mixed()
    some = {name: columns[name] for name in ("age", "colour")}
    some["age"][0] = 40
    data = table_data(some, {n: KINDS[n] for n in some}, label, class_names=("a", "b", "c"), task=classes.name)
    train, test = (comparison.read_columns(data.splits[name]) for name in ("train", "test"))
    encode = ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), [0]),
            ("c", OneHotEncoder(), [1]),
        ]
    )
    table = [
        np.array([[e["age"][i], e["colour"][i].decode()] for i in range(len(e["age"]))], object) for e in (train, test)
    ]
    model = make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(table[0], train["label"])
    expected = model.predict_proba(table[1])
    ours = BASELINES.get(LINEAR[0]).predict(train, test, data)["probabilities"]
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_class_that_training_lacks_has_a_column(classes):
    columns, label = mixed(200, 2)
    data = table_data(columns, KINDS, label, class_names=("a", "b", "never"), task=classes.name)
    train, test = (comparison.read_columns(data.splits[name]) for name in ("train", "test"))
    for name in LINEAR:
        assert not BASELINES.get(name).predict(train, test, data)["probabilities"][:, 2].any()


def test_categories_beyond_the_limit_of_boosting_are_one_together(classes):
    count = 2_000
    names = np.array([f"c{i}".encode() for i in range(count)], object)
    label = np.arange(count) % 2
    columns = {"many": np.where(label == 1, b"often", names).astype(object)}
    data = table_data(columns, {"many": "category"}, label, class_names=("a", "b"), task=classes.name)
    train, test = (comparison.read_columns(data.splits[name]) for name in ("train", "test"))
    for name in LINEAR:
        predictions = BASELINES.get(name).predict(train, test, data)["probabilities"]
        assert (predictions.argmax(axis=1) == test["label"]).mean() > 0.95, name


def test_none_and_names_choose_baselines(classes):
    prepared = prepared_numbers(cancer(), classes)
    model = linear_model(prepared)
    report = zoo.evaluate(model, prepared, baselines="none")
    assert not {"baselines", "comparison"} & set(report) and report["baseline"]["class_name"] == "benign"
    assert [f["baseline"] for f in report["headline"]] == ["the most frequent class"] * 3
    (only,) = zoo.evaluate(model, prepared, baselines=["logistic regression"])["baselines"]
    assert only["name"] == "logistic regression"
    for wanted, message in (
        ("logistic", r"Unknown baseline 'logistic'\. Did you mean 'logistic regression'"),
        (False, r"baselines is False; expected names\. Pass 'all', 'none'"),
        ([3], r"baselines is \[3\]; expected names"),
    ):
        with pytest.raises(zoo.UsageError, match=message):
            zoo.evaluate(model, prepared, baselines=wanted)
        for call in (zoo.run, zoo.preview):
            with pytest.raises(zoo.UsageError, match=message):
                call("mlp", "digits", baselines=wanted)


def test_data_without_a_fitting_baseline_has_none(tmp_path, capsys):
    prepared = zoo.datasets.load("tastes").prepare("matrix_factorization")
    report = zoo.evaluate(prepared.build(seed=0), prepared, baselines=["SVM on pixels"])
    assert "baselines" not in report and "comparison" not in report
    words = ["train", "--model", "mlp", "--data", "digits", "--baselines", "logistic", "--run_directory", str(tmp_path)]
    assert cli.main(words) == 2
    assert "Unknown baseline 'logistic'. Did you mean 'logistic regression'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_rankings_are_compared_with_recent_popularity_and_cosines():
    prepared = zoo.datasets.load("tastes").prepare("matrix_factorization", embedding_dim=2)
    found = {entry["name"]: entry for entry in zoo.evaluate(prepared.build(seed=0), prepared)["baselines"]}
    train, test = (next(iter(split.batch(9_999))) for split in (prepared.data.train, prepared.data.test))
    (users, items), (others, held) = ([part[key].numpy() for key in ("user_id", "item_id")] for part in (train, test))
    names = [np.unique(column) for column in (users, items)]
    seen = np.zeros([len(part) for part in names])
    seen[tuple(np.searchsorted(*pair) for pair in zip(names, (users, items), strict=True))] = 1
    cosines = cosine_similarity(seen.T)
    np.fill_diagonal(cosines, 0)
    order = np.argsort(np.where(seen > 0, -np.inf, seen @ cosines), axis=1)[:, ::-1][:, :10]
    relevant: dict = {}
    for user, item in zip(others, held, strict=True):
        relevant.setdefault(user, set()).add(item)
    hits = [bool({*names[1][order[np.searchsorted(names[0], user)]]} & items) for user, items in relevant.items()]
    assert found["item-item cosine"]["hit_rate"] == pytest.approx(np.mean(hits))
    assert 0 < found["popular items by recency"]["ndcg"] < 1


def test_series_are_compared_with_simple_methods():
    data = zoo.datasets.load("digit_rows", examples_per_class=20)
    prepared = data.prepare("attention", filters=4)
    entries = {entry["name"]: entry for entry in zoo.evaluate(prepared.build(seed=0), prepared)["baselines"]}
    train, test = (next(iter(split.batch(2_000))) for split in (data.train, data.test))
    known, wanted = train["label"].numpy(), test["label"].numpy()
    x, others = (part["series"].numpy() for part in (train, test))
    assert [*entries] == ["MiniRocket with ridge regression", "logistic regression on statistics", "nearest neighbour"]
    scale = x.reshape(-1, x.shape[-1]).std(axis=0)
    scale[scale == 0] = 1
    near = KNeighborsClassifier(1).fit((x / scale).reshape(len(x), -1), known)
    expected = near.score((others / scale).reshape(len(others), -1), wanted)
    assert entries["nearest neighbour"]["accuracy"] == pytest.approx(expected, abs=1e-9)

    def statistics(values):
        slope = (values * np.linspace(-1, 1, values.shape[1])[:, np.newaxis]).mean(1)
        ends = [values[:, 0], values[:, -1]]
        return np.concatenate([values.mean(1), values.std(1), values.min(1), values.max(1), *ends, slope], axis=1)

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(statistics(x), known)
    found = entries["logistic regression on statistics"]["accuracy"]
    assert found == pytest.approx(model.score(statistics(others), wanted), abs=0.003)
    assert entries["MiniRocket with ridge regression"]["accuracy"] > 0.9


def test_forecasts_are_compared_with_ridge_regression_on_the_window():
    data = zoo.datasets.load("seasons", window=14, horizon=3)
    prepared = data.prepare("nlinear")
    report = zoo.evaluate(prepared.build(seed=0), prepared)
    (entry,) = report["baselines"]
    train, test = (next(iter(split.batch(10_000))) for split in (data.train, data.test))
    x, others = (part["series"].numpy().reshape(len(part["series"]), -1) for part in (train, test))
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-3, 6, 19))).fit(x, train["forecast"].numpy())
    assert entry["name"] == "ridge regression on the window"
    error = np.abs(model.predict(others) - test["forecast"].numpy()).mean()
    assert entry["mae"] == pytest.approx(error, rel=1e-3)
    assert "the last value" in [naive["name"] for naive in report["naive"]]
    names = [figure["baseline"] for figure in report["headline"]]
    assert len(names) == len(set(names)), "each baseline stands once"
    assert "ridge regression on the window is better than this model" in report["comparison"]


@pytest.mark.slow
def test_the_command_compares_a_run_on_a_table(tmp_path, capsys):
    frame, target = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = frame.iloc[::2, :5].assign(kind=np.where(target[::2] == 1, "benign", "malignant"))
    frame.to_csv(tmp_path / "cells.csv", index=False)
    columns = {"columns": {"label": "kind"}}
    untrained(tmp_path / "run", f"csv:{tmp_path / 'cells.csv'}", "mlp", data=columns, hidden_units=(4,))
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert last == report["comparison"] and last.endswith(f"better than this model by {last.split()[-1]}")
    assert {*found(report)} >= {*LINEAR} and found(report)[LINEAR[0]]["accuracy"] > 0.8
    assert cli.main(["evaluate", str(tmp_path / "run"), "--baselines", "none"]) == 0
    assert LINEAR[0] not in capsys.readouterr().out
    assert "baselines" not in json.loads((tmp_path / "run" / "evaluation.json").read_text())


@pytest.fixture
def register(monkeypatch):
    """Returns a function that replaces all baselines for a test."""
    monkeypatch.setattr(BASELINES, "entries", dict(BASELINES.entries))
    BASELINES.names()

    def replace(**others):
        BASELINES.entries.clear()
        for name, (predict, options) in others.items():
            baselines.register_baseline(name, Baseline(lambda data: "table" in data.about, predict, **options))

    return replace


def shares(train, examples, data):
    counts = np.bincount(train["label"], minlength=len(data.class_names))
    return {"probabilities": np.tile(counts / counts.sum(), (len(examples["label"]), 1))}


def test_a_failing_baseline_costs_one_line(classes, register):
    def fail(train, examples, data):
        raise MemoryError("no\nroom")

    def wrong(train, examples, data):
        return {"probabilities": np.zeros((3, 2))}

    register(first=(fail, {}), second=(shares, {}), third=(wrong, {}))
    baselines.register_baseline("fourth", Baseline(lambda data: data.nothing, shares))
    prepared = prepared_numbers(cancer(), classes)
    report = zoo.evaluate(linear_model(prepared), prepared)
    entries = found(report)
    assert entries["first"] == {"name": "first", "failure": "MemoryError: no room"}
    assert entries["second"]["accuracy"] == report["baseline"]["accuracy"] and "failure" in entries["third"]
    lines = zoo.evaluation.summarize(report).splitlines()
    assert lines[-3].startswith("fourth failed: applies: AttributeError: 'Data' object has no attribute 'nothing'")
    assert lines[-2] == "first failed: MemoryError: no room" and lines[-1].startswith(
        "third failed: UsageError: targets"
    )
    assert not {"first", "third"} & {figure["baseline"] for figure in report["headline"]}


def test_only_so_many_rows_are_used(classes, register):
    columns, label = mixed(9_000, 2)
    names = tuple(f"class {number}" for number in range(40))
    register(few=(shares, {"most_rows": 500}), many=(shares, {}))
    for class_names, rows in ((names[:2], 500), (names, 125)):
        data = table_data({"age": columns["age"]}, {"age": "number"}, label, class_names=class_names, share=0.95)
        prepared = prepared_numbers(data, classes)
        report = zoo.evaluate(linear_model(prepared), prepared)
        assert [found(report)[name]["fitted_to"] for name in ("few", "many")] == [rows, 8_550]
        lines = zoo.evaluation.summarize(report).splitlines()
        assert lines[-1] == f"few was fitted to {rows} of 8,550 training examples", "nothing of the other"


def test_very_many_examples_are_evaluated_on_a_sample(classes, register, monkeypatch):
    monkeypatch.setattr(comparison, "_MOST_EXAMPLES", 100)
    prepared = prepared_numbers(cancer(), classes)
    register(shares=(shares, {}))
    report = zoo.evaluate(linear_model(prepared), prepared)
    assert found(report)["shares"]["evaluated"] == 100 and report["num_examples"] == 171
    assert zoo.evaluation.summarize(report).splitlines()[-1] == "shares was evaluated on 100 of 171 examples"


def test_samples_of_rows_are_the_same_every_time():
    def split(**columns):
        return Split(lambda: tf.data.Dataset.from_tensor_slices(columns), 5_000)

    numbers = split(x=np.arange(5_000), text=np.array([b"a\0"] * 5_000, object))
    first, second = (comparison.read_columns(numbers, 700) for _ in range(2))
    np.testing.assert_array_equal(first["x"], second["x"])
    assert len(first["x"]) == 700 and np.all(np.diff(first["x"]) > 0) and first["text"][0] == b"a\0"
    ragged = Split(lambda: tf.data.Dataset.range(9).map(lambda n: {"words": tf.range(n), "n": n}), 9)
    columns = comparison.read_columns(ragged, 4)
    assert [len(words) for words in columns["words"]] == columns["n"].tolist() and columns["n"].dtype == np.int64


def test_the_verdict_names_the_best_of_all():
    def verdict(model, lower=False, **others):
        figures = [Figure("score", model, "always", 0.5, key="score", higher_is_better=not lower)]
        report = {"baselines": [{"name": name, "score": value} for name, value in others.items()]}
        return comparison.verdict(comparison.completed(figures, report), report)

    assert verdict(0.8627, tree=0.873, line=0.8512) == (
        "score of line 0.8512, tree 0.8730: tree is better than this model by 0.0103"
    )
    assert verdict(0.9, tree=0.8, line=0.7) == (
        "score of line 0.7000, tree 0.8000: this model is better than tree, the best of the baselines, by 0.1000"
    )
    assert verdict(0.8, tree=0.8).endswith(": this model is as good as tree")
    assert verdict(0.45, tree=0.4) == "score of tree 0.4000, always 0.5000: always is better than this model by 0.0500"
    assert verdict(0.6, lower=True, tree=0.7) == (
        "score of tree 0.7000, always 0.5000: always is better than this model by 0.1000"
    )
    assert verdict(0.9) == ""


def test_a_lead_that_the_split_cannot_show_is_called_so():
    def verdict(model, interval):
        figures = [Figure("accuracy", model, "always", 0.5, key="accuracy", interval=interval)]
        report = {"baselines": [{"name": "tree", "accuracy": 0.86}], "split": "test"}
        figures = comparison.completed(figures, report)
        return comparison.verdict(figures, report).rpartition(": ")[2], comparison.standing(figures, report)

    unsure = "by 0.0040, which is less than the uncertainty of this test split"
    ahead = f"this model is better than tree, the best of the baselines, {unsure}"
    assert verdict(0.864, (0.85, 0.88)) == (ahead, f"accuracy 0.8640: {ahead}")
    assert verdict(0.856, (0.84, 0.87))[0] == f"tree is better than this model {unsure}"
    assert verdict(0.9, (0.88, 0.92))[0] == "this model is better than tree, the best of the baselines, by 0.0400"


def test_docstring_examples_run():
    scope = {**vars(comparison), "Baseline": Baseline, "chosen_baselines": baselines.chosen_baselines}
    for function in (comparison.verdict, baselines.chosen_baselines):
        test = doctest.DocTestParser().get_doctest(function.__doc__, scope, function.__name__, None, None)
        lines: list[str] = []
        assert not doctest.DocTestRunner().run(test, out=lines.append).failed, "".join(lines)
