"""Data that is edited after training: the run is not changed, and nothing wrong is published."""

from __future__ import annotations

import json
import os
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import datasets
from zoo.datasets.fingerprint import content_hash
from zoo.datasets.preprocessing.base import get_preprocessor
from zoo.pipeline import export_run, open_run
from zoo.scripts import cli

GOOD, BAD = ("great", "lovely", "warm"), ("awful", "poor", "dull")
CONFIG = {"epochs": 6, "learning_rate": 0.05, "batch_size": 8}
SMALL = {"embedding_dim": 8, "filters": 8, "dense_units": 8, "pooling": "max", "dropout": 0.0, "word_dropout": 0.0}


def rows(numbers, labels=("neg", "pos")):
    """Returns lines of the file: texts and labels, half of them positive and half of them negative."""
    return [f"{(BAD, GOOD)[i % 2][i // 2 % 3]} film number {i},{labels[i % 2]}" for i in numbers]


SPLITS = {"train": range(32), "validation": range(100, 108), "test": range(200, 208)}


def table(labels=("neg", "pos"), **others):
    """Returns the CSV file with its splits; `others` replaces the lines of a split."""
    parts = {split: others.get(split, rows(numbers, labels)) for split, numbers in SPLITS.items()}
    return "\n".join(["text,label,split", *(f"{line},{split}" for split, lines in parts.items() for line in lines), ""])


def train(file, run, epochs=CONFIG["epochs"], **arguments):
    config = zoo.TrainConfig(**{**CONFIG, "epochs": epochs})
    return zoo.run(
        "attention",
        f"csv:{file}",
        config=config,
        model_arguments=SMALL,
        run_directory=run,
        export=False,
        verbose=0,
        **arguments,
    )


def contents(folder):
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != ".lock"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run that has learned its labels, and its training file."""
    folder = tmp_path_factory.mktemp("edited")
    file, run = folder / "work.csv", folder / "run"
    file.write_text(table())
    assert train(file, run).report["accuracy"] == 1.0
    return file, run


@pytest.fixture
def edited(finished):
    """The same run and file; restores the content of the file afterwards."""
    yield finished
    finished[0].write_text(table())


EDITS = {
    "labels renamed": (
        table(("unfavourable", "favourable")),
        r"the class names were neg, pos and are favourable, unfavourable; .*the train, validation and test splits have",
    ),
    "labels flipped": (
        table(("pos", "neg")),
        r"other data: the train, validation and test splits have different content",
    ),
    "words corrected": (
        table().replace("lovely", "lovable"),
        r"the vocabulary had 8 entries, now without lovely and with lovable; the train",
    ),
    "a class added": (
        table(train=[*rows(SPLITS["train"]), "a new thing,aaa", "a new thing 2,aaa"]),
        r"the class names were neg, pos and are aaa, neg, pos; .*the train split had 32 examples and has 34; the validation",
    ),
    "validation alone": (table(validation=rows(range(100, 104))), r"the validation split had 8 examples and has 4\. "),
    "rows in another order": (
        table(train=rows(SPLITS["train"])[::-1]),
        r"other data: (the vocabulary .*in a different order; )?"
        r"the train split has different content or a different order\. ",
    ),
}


@pytest.mark.parametrize(
    "edit",
    [
        *("validation alone", "rows in another order"),
        *(
            pytest.param(e, marks=pytest.mark.slow)
            for e in ("words corrected", "labels renamed", "labels flipped", "a class added")
        ),
    ],
)
def test_training_rejects_edited_data_and_does_not_change_the_run(edited, edit):
    file, run = edited
    before = contents(run)
    file.write_text(EDITS[edit][0])
    with pytest.raises(zoo.UsageError, match=EDITS[edit][1]) as refusal:
        train(file, run)
    expected = "Put the old data back to resume, or pass another run_directory, or overwrite=True (--overwrite)"
    assert expected in str(refusal.value)
    assert contents(run) == before


def test_more_epochs_on_grown_data_are_rejected(edited):
    file, run = edited
    before = contents(run)
    file.write_text(table(train=rows(range(40))))
    with pytest.raises(zoo.UsageError, match="the train split had 32 examples and has 40"):
        train(file, run, epochs=CONFIG["epochs"] + 1)
    assert contents(run) == before


def test_a_run_exports_its_original_classes_after_a_rejected_command(edited, tmp_path, capsys):
    file, run = edited
    file.write_text(EDITS["a class added"][0])
    config = [f"--config.{name}={value}" for name, value in CONFIG.items()]
    model = [f"--model.{name}={value}" for name, value in SMALL.items()]
    words = [
        "train",
        "--model",
        "attention",
        "--data",
        f"csv:{file}",
        "--run_directory",
        str(run),
        *config,
        *model,
    ]
    assert cli.main([*words, "--no-export"]) == 2
    message = f"holds a run that was trained on other data: {EDITS['a class added'][1]}"
    assert re.search(message, capsys.readouterr().err)
    saved = export_run(run, tmp_path / "exports")
    facts = json.loads((saved / "assets.extra" / "zoo.json").read_text())
    interface = json.loads((run / "interface" / "interface.json").read_text())
    assert facts["data_sha256"] == interface["data_sha256"]
    assert facts["class_names"] == ["neg", "pos"] and facts["metrics"]["accuracy"] == 1.0
    serve = tf.saved_model.load(str(saved)).signatures["serving_default"]
    answers = serve(text=tf.constant(["lovely film", "awful film"]))["class_name"].numpy().ravel().tolist()
    assert answers == [b"pos", b"neg"]


def test_evaluation_rejects_other_classes_and_another_training_split(edited, capsys):
    file, run = edited
    before = contents(run)
    for edit, changed in (("labels renamed", "favourable, unfavourable"), ("words corrected", "the train, validation")):
        file.write_text(EDITS[edit][0])
        assert cli.main(["evaluate", str(run)]) == 2
        assert re.search(f"was trained on other data: .*{changed}.*Put the old data back", capsys.readouterr().err)
    assert contents(run) == before


def test_evaluation_of_a_run_whose_data_is_gone_is_rejected_in_a_sentence(edited, capsys):
    file, run = edited
    before = contents(run)
    file.unlink()
    assert cli.main(["evaluate", str(run)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"zoo: The data of the run in {run}, csv:{file}, cannot be loaded again: Cannot read {file}: No such"
    )
    assert "Put it back where it was" in said and f"`zoo export {run} FOLDER` needs no data." in said
    assert said.count("\n") == 1 and "Traceback" not in said and contents(run) == before


def test_another_test_split_is_evaluated_and_stored_separately(edited, capsys):
    file, run = edited
    before = contents(run)
    file.write_text(table(test=rows(range(300, 306), ("pos", "neg"))))  # every label is wrong
    assert cli.main(["evaluate", str(run)]) == 0
    assert "The data has changed since the run: the test split had 8 examples and has 6." in capsys.readouterr().out
    after = contents(run)
    assert {name: after[name] for name in before} == before, "the run's own files stay"
    report = json.loads((run / "evaluation-changed.json").read_text())
    assert report["accuracy"] == 0.0 and "has 6" in report["changed_data"]
    assert (run / "plots" / "confusion_matrix-changed.png").is_file()
    assert open_run(run)[1].changed.keys() == {"test"}
    for new in after.keys() - before.keys():
        (run / new).unlink()


def test_moved_data_resumes_and_a_kill_leaves_no_outdated_report(finished, tmp_path, monkeypatch):
    file, run = finished
    shutil.copytree(run, tmp_path / "run")
    moved = tmp_path / "elsewhere.csv"
    shutil.copy(file, moved)

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zoo.evaluation, "evaluate_run", killed)
        with pytest.raises(KeyboardInterrupt):
            train(moved, tmp_path / "run", epochs=CONFIG["epochs"] + 1)
    assert not (tmp_path / "run" / "evaluation.json").exists(), "an export has no figures of the weights before"
    result = train(moved, tmp_path / "run", epochs=CONFIG["epochs"] + 1)
    assert len(result.history) == CONFIG["epochs"] + 1 and (tmp_path / "run" / "evaluation.json").is_file()
    assert contents(tmp_path / "run" / "interface") == contents(run / "interface"), "the interface that it began with"
    assert "elsewhere" in (tmp_path / "run" / "config.yaml").read_text()


def test_an_unsuitable_checkpoint_is_found_before_writing(finished, tmp_path):
    file, run = finished[0], tmp_path / "run"
    shutil.copytree(finished[1], run)
    (run / ".settings.json").unlink()
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("filters: 8", "filters: 9"))
    before = contents(run)
    with pytest.raises(zoo.UsageError, match="belongs to another model"):
        zoo.run(
            "attention",
            f"csv:{file}",
            config=zoo.TrainConfig(**CONFIG),
            model_arguments={**SMALL, "filters": 9},
            run_directory=run,
            verbose=0,
        )
    assert contents(run) == before


def test_an_interface_of_other_data_is_rejected(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[1], run)
    other = tmp_path / "other.csv"
    other.write_text(EDITS["words corrected"][0])
    interface = datasets.load(f"csv:{other}").prepare("attention", **SMALL).interface
    interface.save(run / "interface")
    for use in (lambda: export_run(run, tmp_path / "exports"), lambda: open_run(run)):
        with pytest.raises(zoo.UsageError, match=r"interface belongs to other data than .*model\.keras: .*--overwrite"):
            use()
    with pytest.raises(zoo.UsageError, match="belongs to other data than the checkpoints"):
        train(other, run)

    written = json.loads((finished[1] / "interface" / "interface.json").read_text())
    (run / "interface" / "interface.json").write_text(json.dumps({**written, "class_names": ["pos", "neg"]}))
    with pytest.raises(zoo.UsageError, match=r"interface\.json was changed after training"):
        export_run(run, tmp_path / "exports")
    del written["splits"]
    (run / "interface" / "interface.json").write_text(json.dumps(written))
    with pytest.raises(zoo.UsageError, match=r"has no hash of its data.*Train the model again.*--overwrite"):
        export_run(run, tmp_path / "exports")
    assert not (tmp_path / "exports").exists()


def picture(file, seed):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 1), np.uint8)
    file.write_bytes(tf.io.encode_png(pixels, compression=0).numpy())  # the file size does not depend on the pixels


def test_replaced_images_are_detected_and_moved_folders_are_accepted(tmp_path):
    folder, run = tmp_path / "pictures", tmp_path / "run"
    for part, count in (("train", 6), ("validation", 2), ("test", 2)):
        for number in range(2 * count):
            picture(folder / part / "ab"[number % 2] / f"{number}.png", len(part) * 100 + number)

    def again(place):
        config = zoo.TrainConfig(epochs=1)
        prepared = datasets.load(f"images:{place}").prepare("mlp", hidden_units=[4], input_shape=[6, 6, 1])
        return zoo.train(prepared.build(seed=0), prepared, config, run_directory=run, verbose=0)

    again(folder)
    folder.rename(tmp_path / "moved")
    assert again(tmp_path / "moved").resumed_at == (1, 0)
    before = contents(run)
    replaced = tmp_path / "moved" / "train" / "a" / "0.png"
    facts = replaced.stat()
    picture(replaced, 123_456)
    os.utime(replaced, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert replaced.stat().st_size == facts.st_size
    with pytest.raises(zoo.UsageError, match="other data: the train split has different content"):
        again(tmp_path / "moved")
    assert contents(run) == before


def test_the_model_file_loads_in_plain_keras(finished):
    model = keras.saving.load_model(finished[1] / "model.keras", compile=False)
    assert model.output_shape == (None, 2)


def dataset_of(examples):
    signature = {"s": tf.TensorSpec([None, 2], tf.float32), "t": tf.TensorSpec([], tf.string)}
    return tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=signature)


def test_the_hash_of_examples_covers_content_order_and_borders():
    series = [np.arange(2 * n, dtype=np.float32).reshape(n, 2) for n in (1, 3, 2)]
    examples = [{"s": s, "t": t} for s, t in zip(series, (b"ab", b"c", b"\x00"), strict=True)]
    whole = content_hash(dataset_of(examples))
    assert whole == content_hash(dataset_of(examples)) and len(whole) == 64
    border = [
        {"s": s, "t": t} for s, t in zip(np.split(np.concatenate(series), [2, 4]), (b"ab", b"c", b"\x00"), strict=True)
    ]
    words = [{**e, "t": t} for e, t in zip(examples, (b"a", b"bc", b"\x00"), strict=True)]
    value = [{**examples[0], "s": series[0] + 1}, *examples[1:]]
    others = [content_hash(dataset_of(e)) for e in (border, words, value, examples[::-1], examples[:2], [])]
    assert len({whole, *others}) == 7
    many = [examples[i % 3] for i in range(600)]  # more than one batch of the hash
    assert content_hash(dataset_of(many)) != content_hash(dataset_of([*many[:-1], examples[0]]))


@pytest.mark.parametrize(
    ("data", "model"),
    [
        ("digits", "mlp"),
        ("commands", "embedding_lstm"),
        pytest.param("digit_rows", "lstm", marks=pytest.mark.slow),
        ("seasons", "lstm"),
        ("tagged_commands", "rnn"),
        ("number_words", "seq2seq_rnn"),
        ("tastes", "matrix_factorization"),
        ("command_lines", "bert_mlm"),
    ],
)
def test_a_fingerprint_survives_storage(data, model):
    """Loads every kind of data and preprocessor twice."""
    first, second = (datasets.load(data).prepare(model).fingerprint for _ in range(2))
    assert first.sha256 == second.sha256 and first.changes(second) == []
    assert len({split["sha256"] for split in first.splits.values()}) == 3
    config = json.loads(json.dumps(first.preprocessor))
    again = get_preprocessor(config.pop("kind"))(**config)
    assert zoo.registry.plain({"kind": again.kind, **again.config()}) == first.preprocessor


def test_folds_count_as_different_splits_of_the_same_data(tmp_path):
    file = tmp_path / "all.csv"
    file.write_text("\n".join(["text,label", *rows(range(24)), ""]))
    one, other, again = (
        datasets.load(f"csv:{file}", folds=3, fold=fold).prepare("attention").fingerprint for fold in (0, 1, 0)
    )
    assert one.sha256 != other.sha256 and one.splits == again.splits
