"""The model card: metrics, confusions, figures, limits and links; its programs are really run.

Most tests write a card from a few recorded facts. The slow tests make an artifact of every task and run its card's
Python code, the JSON of its curl commands and its C program.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from served_models import serving
from zoo import storage
from zoo.errors import UsageError
from zoo.export.extras import card as cards
from zoo.export.extras import request_examples
from zoo.export.extras.card import check_figures, model_card
from zoo.export.standalone import arrays

PNG = b"\x89PNG\r\n\x1a\n"
FACTS = {
    "model": {"name": "some_model", "arguments": {"units": 3}},
    "parameters": 1234,
    "task": "text_classification",
    "class_names": ["a|b", "*c*", "d"],
    "data": {"name": "letters", "source": "the post", "licence": "CC0"},
    "portable_signature": "predict",
    "limits": ["Of a text the first 7 words count."],
    "signatures": {
        "serving_default": {
            "inputs": {"text": {"dtype": "string", "shape": [None], "kind": "text"}},
            "outputs": {
                "class_name": {"dtype": "string", "shape": [None]},
                "probabilities": {"dtype": "float32", "shape": [None, 3]},
            },
            "golden": {"inputs": "requests", "answers": "serving_default"},
        },
        "predict": {
            "inputs": {"token_ids": {"dtype": "int32", "shape": [None, None], "kind": "number"}},
            "outputs": {"probabilities": {"dtype": "float32", "shape": [None, 3]}},
            "golden": {"inputs": "inputs", "answers": "predict"},
        },
    },
    "metrics": {"split": "test", "accuracy": 0.75, "num_examples": 1200},
    "baseline": {"accuracy": 0.5},
    "headline": [{"metric": "F1 of d", "value": 0.25, "baseline": "", "baseline_value": None}],
    "written_by": {"savedmodel-zoo": "9.8", "tensorflow": "2.21.0"},
}
GOLDEN = {
    "requests/text": np.array(['it\'s "so" – $HOME'.encode(), b"b"], object),
    "inputs/token_ids": np.array([[5, 6, 7, 0], [1, 0, 0, 0]], np.int32),
}


def folder(path, facts=FACTS, golden=GOLDEN, figures=()):
    extra = path / "assets.extra"
    extra.mkdir(parents=True)
    storage.write_json(extra / "zoo.json", facts)
    arrays.save(extra / "golden.npz", golden)
    for name in figures:
        (extra / f"{name}.png").write_bytes(PNG)
    return path


def section(card, title):
    return re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", card, re.DOTALL | re.MULTILINE)[1]


# ---------------------------------------------------------------- contents


def test_the_card_describes_the_model(tmp_path):
    card = model_card(folder(tmp_path), {})
    assert card.startswith(
        "# some_model for letters\n\n"
        "A model for text classification with 1,234 parameters, exported by savedmodel-zoo 9.8 with "
        "TensorFlow 2.21.0. Its input is `text`, its output `class_name` and `probabilities`.\n"
    )
    for line in (
        "- Data: letters, the post",
        "- Licence of the data: CC0",
        r"- Labels: a\|b, \*c\*, d, in the order of `assets/labels.txt`",
        "- Of a text the first 7 words count.",
    ):
        assert line in card.splitlines()
    assert "with which it was written and verified" in card
    measured = section(card, "Measured on the test split")
    assert measured == "| metric | model | baseline |\n|---|---|---|\n| **F1 of d** | 0.2500 |  |\n" + (
        "| accuracy | 0.7500 | 0.5000 |\n\n1,200 examples.\n\n"
    )
    assert not re.search(r"confus|!\[", card)


def test_the_table_lists_every_metric_once(tmp_path):
    metrics = {"split": "test", "accuracy": 0.75, "macro_f1": 0.7, "mae": 2.5, "log_loss": 0.75, "num_examples": 12}
    headline = [
        {"metric": "accuracy", "value": 0.75, "baseline": "the most frequent class", "baseline_value": 0.5},
        {"metric": "MAE (kWh)", "value": 2.5, "baseline": "the last value", "baseline_value": 3.0},
    ]
    facts = {**FACTS, "metrics": metrics, "baseline": {"accuracy": 0.5, "log_loss": 1.0}, "headline": headline}
    rows = section(model_card(folder(tmp_path, facts), {}), "Measured on the test split").splitlines()[2:-2]
    assert rows == [
        "| **accuracy** | 0.7500 | 0.5000, the most frequent class |",
        "| **MAE (kWh)** | 2.5000 | 3.0000, the last value |",
        "| macro F1 | 0.7000 |  |",
        "| log loss | 0.7500 | 1.0000 |",
        "",
    ]


def test_intervals_and_all_baselines_stand_in_one_row(tmp_path):
    figure = {"metric": "accuracy", "value": 0.8627, "key": "accuracy", "interval": [0.84171, 0.88389]}
    rivals = {"the most frequent class": 0.76, "logistic_regression": 0.8512, "boosting": 0.873}
    headline = [{**figure, "baseline": name, "baseline_value": value} for name, value in rivals.items()]
    headline.append({"metric": "F1 of d", "value": 0.5, "key": "positive_f1", "baseline": "", "baseline_value": None})
    told = "accuracy of logistic_regression 0.8512, boosting 0.8730: boosting is better than this model by 0.0103"
    metrics = {"split": "test", "accuracy": 0.8627, "positive_f1": 0.5, "comparison": told}
    facts = {**FACTS, "metrics": metrics, "baseline": None, "headline": headline}
    rows = section(model_card(folder(tmp_path, facts), {}), "Measured on the test split").splitlines()[2:]
    assert rows == [
        "| **accuracy** | 0.8627 (0.84 to 0.88) | 0.7600, the most frequent class<br>0.8512, logistic_regression<br>"
        "0.8730, boosting |",
        "| **F1 of d** | 0.5000 |  |",
        "",
        rf"{told.replace('_', chr(92) + '_')}.",
        "",
    ]


def test_thresholds_of_two_classes_are_a_table(tmp_path):
    row = {"threshold": 0.05, "precision": 0.25, "recall": 1.0, "f1": 0.4, "share_predicted": 0.8}
    report = {"positive_class": "*c*", "thresholds": [row, {**row, "threshold": 0.5}]}
    lines = section(model_card(folder(tmp_path), report), "Measured on the test split").splitlines()
    start = lines.index(r"If an example is called \*c\* from a probability on:")
    assert lines[start + 4 : start + 6] == [
        "| 0.05 | 0.2500 | 1.0000 | 0.4000 | 0.8000 |",
        "| 0.5 | 0.2500 | 1.0000 | 0.4000 | 0.8000 |",
    ]


def test_a_small_confusion_matrix_is_shown_completely(tmp_path):
    report = {"confusion_matrix": [[1200, 0, 0.5], [0, 2, 0], [1, 0, 3]], "class_names": ["a|b", "*c*", "d"]}
    card = model_card(folder(tmp_path), report)
    assert section(card, "Measured on the test split").endswith(
        "Rows are true classes, columns predicted classes:\n\n"
        "| true \\ predicted | a\\|b | \\*c\\* | d |\n|---|---:|---:|---:|\n"
        "| **a\\|b** | 1,200 | 0 | 0.50 |\n| **\\*c\\*** | 0 | 2 | 0 |\n| **d** | 1 | 0 | 3 |\n\n"
    )


def test_a_large_confusion_matrix_is_reduced_to_frequent_confusions(tmp_path):
    matrix = np.diag(np.full(12, 50))
    matrix[3, 4], matrix[4, 3] = 7, 9
    for column in range(1, 12):
        matrix[0, column] = 2
    names = [f"n{i}" for i in range(12)]
    card = model_card(folder(tmp_path / "a"), {"confusion_matrix": matrix.tolist(), "class_names": names})
    table = re.search(r"Most frequent confusions:\n\n(.*?)\n\n", card, re.DOTALL)[1].splitlines()
    assert table[:5] == [
        "| true | predicted | examples |",
        "|---|---|---|",
        "| n4 | n3 | 9 of 59 |",
        "| n3 | n4 | 7 of 57 |",
        "| n0 | n1 | 2 of 72 |",
    ]
    assert len(table) == 12
    card = model_card(
        folder(tmp_path / "b"), {"confusion_matrix": np.eye(12, dtype=int).tolist(), "class_names": names}
    )
    assert "No class was confused with another." in card


def test_figures_and_paths_are_relative_to_the_card(tmp_path):
    version = folder(tmp_path / "saved_model" / "1", figures=["curves", "confusion_matrix"])
    for card, place, base in (
        (model_card(version, {}), "this folder", version),
        (model_card(version, {}, place="saved_model/1"), "`saved_model/1`: `cd saved_model/1`", tmp_path),
    ):
        links = re.findall(r"!\[(.*?)\]\((.*?)\)", card)
        assert [name for name, _ in links] == ["Confusion matrix", "Curves"]
        assert all((base / link).is_file() for _, link in links)
        assert f"Run the examples of this section in {place}." in card
        assert (base / re.search(r"`([\w./]+golden.npz)`", card)[1]).is_file()
    assert "`zoo verify saved_model/1`" in card
    assert "`cd saved_model/1 && sha256sum --check assets.extra/SHA256SUMS`" in card


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("curves", None, r"The figure curves is '.*', which is not a PNG file. Pass one, or leave it out"),
        ("curves", b"GIF89a", r"The figure curves is '.*', which is not a PNG file"),
        ("../curves", PNG, r"The figure's name '../curves' is not valid. Use lower-case letters, numbers and _"),
    ],
)
def test_invalid_figures_are_rejected(tmp_path, name, content, message):
    file = tmp_path / "figure.png"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        check_figures({name: file})


# ---------------------------------------------------------------- example requests


def test_requests_contain_the_first_golden_example(tmp_path):
    card = section(model_card(folder(tmp_path), {}), "Request")
    assert 'ask("serving_default", text=tf.constant(["it\'s \\"so\\" – $HOME"]))' in card
    assert 'ask("predict", token_ids=tf.constant([[5, 6, 7]], tf.int32))' in card
    commands = re.findall(r"^curl .*$", card, re.MULTILINE)
    bodies = [shlex.split(command)[2] for command in commands]
    assert [json.loads(body) for body in bodies] == [
        {"signature_name": "serving_default", "instances": ['it\'s "so" – $HOME']},
        {"signature_name": "predict", "instances": [[5, 6, 7]]},
    ]
    assert {shlex.split(command)[3] for command in commands} == {"localhost:8501/v1/models/some_model:predict"}
    run = re.search(r"^/tmp/request .*$", card, re.MULTILINE)[0]
    assert shlex.split(run) == ["/tmp/request", ".", 'it\'s "so" – $HOME']


def test_examples_are_selected_by_signature():
    golden = {
        "requests/series": 1,
        "inputs/series": 2,
        "requests/item_id": 3,
        "answers/top_k/x": 4,
        "answers/predict/y": 5,
    }

    def signature(kind, answers, *inputs):
        return {"inputs": dict.fromkeys(inputs), "golden": {"inputs": kind, "answers": answers}}

    described = {
        "top_k": signature("requests", "top_k", "series"),
        "predict_portable": signature("inputs", "predict", "series"),
        "rating": signature("requests", "rating", "series", "item_id"),
        "lost": signature("requests", "lost", "series", "user_id"),
    }
    found = {name: arrays.examples(golden, described, name) for name in (*described, "unknown")}
    assert found == {
        "top_k": ({"series": 1}, {"x": 4}),
        "predict_portable": ({"series": 2}, {"y": 5}),
        "rating": ({"series": 1, "item_id": 3}, {}),
        "lost": ({}, {}),
        "unknown": ({}, {}),
    }


def test_requests_name_several_inputs_and_encode_only_bytes():
    golden = {"a": np.array([b"x"], object), "b": np.array([3])}
    number = {"dtype": "int64", "shape": [None], "kind": "number"}
    named = {"a": {"dtype": "string", "shape": [None], "kind": "text"}, "b": number}
    body = shlex.split(request_examples.rest_request("s", named, golden, "url"))[2]
    assert json.loads(body) == {"signature_name": "s", "instances": [{"a": "x", "b": 3}]}
    files = {"scan": {"dtype": "string", "shape": [None], "kind": "file"}, "b": number}
    golden = {"scan": np.array([b"\x89PNG"], object), "b": np.array([3])}
    words = shlex.split(request_examples.rest_request("s", files, golden, "url"))
    assert json.loads(words[1] % "aW1hZ2U=") == {
        "signature_name": "s",
        "instances": [{"scan": {"b64": "aW1hZ2U="}, "b": 3}],
    }


def test_the_example_is_one_without_missing_numbers_if_there_is_any():
    specs = {
        "age": {"dtype": "float32", "shape": [None], "kind": "number"},
        "name": {"dtype": "string", "shape": [None]},
    }
    specs["name"]["kind"] = "text"
    golden = {"age": np.array([np.nan, 39.0], np.float32), "name": np.array([b"Ida", b"Bo"], object)}
    assert request_examples.python_request(specs, golden) == [
        "age=tf.constant([39.0], tf.float32)",
        'name=tf.constant(["Bo"])',
    ]
    assert request_examples.c_arguments(specs, golden) == "39 Bo"
    golden = {"age": np.array([np.nan], np.float32), "name": np.array([b"Ida"], object)}
    assert request_examples.python_request(specs, golden)[0] == 'age=tf.constant([float("nan")], tf.float32)'
    assert '{"age": NaN, "name": "Ida"}' in request_examples.rest_request("s", specs, golden, "url")
    assert request_examples.c_arguments(specs, golden) == "nan Ida"


def test_lists_of_ids_are_shown_without_their_padding():
    specs = {"history": {"dtype": "string", "kind": "ids", "shape": [None, None]}}
    golden = {"history": np.array([[b"i7", b"i9", b""], [b"i8", b"", b""]], object)}
    assert request_examples.python_request(specs, golden) == ['history=tf.constant([["i7", "i9"]])']
    asked = request_examples.rest_request("history", specs, golden, "url")
    assert json.loads(shlex.split(asked)[2]) == {"signature_name": "history", "instances": [["i7", "i9"]]}


def test_long_values_are_truncated_or_omitted():
    words = " ".join(["word"] * 40)
    golden = {
        "text": np.array([words.encode()], object),
        "id": np.array([b"i" * 300], object),
        "image": np.zeros((1, 28, 28, 1), np.float32),
        "series": np.full((1, 90, 3), 1 / 3, np.float32),
    }
    golden["series"][0, 1, 2] = np.nan

    def shown(name, dtype, shape):
        (argument,) = request_examples.python_request(
            {name: {"dtype": dtype, "shape": shape, "kind": "number"}}, golden
        )
        return argument

    text = re.fullmatch(r'text=tf.constant\(\["(.*)"\]\)', shown("text", "string", [None]))[1]
    assert words.startswith(text) and text.endswith("word") and 100 < len(text) <= 120
    assert "i" * 300 in shown("id", "string", [None])
    assert shown("image", "float32", [None, 28, 28, 1]) == "image=tf.zeros([1, 28, 28, 1], tf.float32)"
    series = 'series=tf.constant([[[0.3333, 0.3333, 0.3333], [0.3333, 0.3333, float("nan")]]], tf.float32)'
    assert shown("series", "float32", [None, None, 3]) == series
    image = {"image": {"dtype": "float32", "shape": [None, 28, 28, 1], "kind": "number"}}
    assert request_examples.rest_request("s", image, golden, "url") is None


# ---------------------------------------------------------------- real artifacts of every task

TASKS = {
    "digits": ("cnn", {"filters": (4,), "dense_units": None, "input_shape": (8, 8, 1)}),
    "commands": ("transformer", {}),
    "digit_rows": ("lstm", {}),
    "seasons": ("lstm", {}),
    "tagged_commands": ("rnn", {}),
    "number_words": ("seq2seq_rnn", {}),
    "tastes": ("matrix_factorization", {}),
    "command_lines": ("bert_mlm", {}),
    "spoken_sums": ("gpt", {"hidden_size": 16, "num_layers": 1, "num_heads": 2}),
}


@pytest.fixture(scope="module", params=TASKS)
def run(request, tmp_path_factory):
    """A run of one epoch: its directory with card, figures and SavedModel."""
    model, arguments = TASKS[request.param]
    return zoo.run(
        model,
        request.param,
        model_arguments=arguments,
        config=zoo.TrainConfig(epochs=1),
        run_directory=tmp_path_factory.mktemp("runs") / request.param,
        verbose=0,
    )


@pytest.fixture
def image(run, tmp_path):
    golden = arrays.load(run.saved_model / "assets.extra" / "golden.npz")
    if "requests/image_bytes" in golden:
        (tmp_path / "image.png").write_bytes(golden["requests/image_bytes"][0])
    return tmp_path / "image.png"


def blocks(card, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_card_of_a_run_links_to_its_figures(run):
    for file in (run.run_directory / "README.md", run.saved_model / "README.md"):
        links = re.findall(r"!\[.*?\]\((.*?)\)", file.read_text(encoding="utf-8"))
        assert any(link.endswith("assets.extra/curves.png") for link in links)
        assert all((file.parent / link).is_file() for link in links)
    drawn = {p.stem for p in (run.run_directory / "plots").glob("*.png")} - {"history"}
    assert {Path(link).stem for link in links} == {"curves", *drawn}
    again = zoo.pipeline.export_run(run.run_directory, run.run_directory / "again")
    assert {p.stem for p in (again / "assets.extra").glob("*.png")} == {"curves", *drawn}


@pytest.mark.slow
def test_python_code_of_a_card_runs(run, image):
    (source,) = blocks((run.saved_model / "README.md").read_text(encoding="utf-8"), "python")
    signatures = storage.read_json(run.saved_model / "assets.extra" / "zoo.json")["signatures"]
    printed = io.StringIO()
    with contextlib.chdir(run.saved_model), contextlib.redirect_stdout(printed):
        exec(source.replace("/path/to/image.png", str(image)), {})
    for signature in signatures.values():
        assert all(f"'{name}': array(" in printed.getvalue() for name in signature["outputs"])


@pytest.mark.slow
def test_curl_commands_of_a_card_are_answered_by_a_server(run, image):
    pytest.importorskip("starlette", reason="needs the extra `serve`")
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    card = (run.saved_model / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^.*curl -d.*$", card, re.MULTILINE)
    with serving({"model": run.saved_model}) as client:
        signatures = client.repository.model("model").version().signatures
        for command in commands:
            command = re.sub(r"localhost:8501/v1/models/\w+:", f"127.0.0.1:{client.port}/v1/models/model:", command)
            command = command.replace("/path/to/image.png", str(image)).replace("curl -d", "curl -s -d")
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
            answer = json.loads(done.stdout)
            assert "predictions" in answer, f"{command}: {answer}"
            (prediction,) = answer["predictions"]
            outputs = signatures[re.search(r'"signature_name": "(\w+)"', command)[1]].outputs
            assert len(outputs) == 1 or prediction.keys() == outputs.keys()
    assert commands


@pytest.mark.slow
def test_the_c_program_of_a_card_compiles_and_predicts(run, image, tmp_path):
    """Treats warnings as errors and compares with the outputs of the same request in Python."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    card = (run.saved_model / "README.md").read_text(encoding="utf-8")
    (block,) = (block for block in blocks(card, "sh") if "request.c" in block)
    block = block.replace("/tmp/request", str(tmp_path / "request")).replace("cc -O2", "cc -Wall -Wextra -Werror -O2")
    block = block.replace("/path/to/image.png", str(image))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # so that `python` has TensorFlow
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(["bash", "-ec", block], cwd=run.saved_model, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    described = storage.read_json(run.saved_model / "assets.extra" / "zoo.json")["signatures"]
    golden, _ = arrays.examples(
        arrays.load(run.saved_model / "assets.extra" / "golden.npz"), described, "serving_default"
    )
    specs = described["serving_default"]
    import tensorflow as tf

    source = ", ".join(request_examples.python_request(specs["inputs"], golden))
    signatures = tf.saved_model.load(str(run.saved_model)).signatures
    call = f'signatures["serving_default"]({source})'.replace("/path/to/image.png", str(image))
    expected = eval(call, {"tf": tf, "signatures": signatures})
    assert set(answers) == set(expected)
    for name, value in expected.items():
        want = value.numpy().ravel()[:20]
        if want.dtype == object:
            assert answers[name].split(" ... (")[0] == " ".join(text.decode() for text in want)
        else:
            got = np.array(answers[name].split(" ... ")[0].split(), np.float64)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    wrong = subprocess.run([tmp_path / "request", "nowhere", "1"], capture_output=True, text=True)
    assert wrong.returncode == 1


def test_generated_texts_cannot_end_their_block():
    samples = [{"prompt": "Say", "seed": 0, "text": "a\n```\n# b\x00"}, {"prompt": "Say", "seed": 1, "text": "c"}]
    lines = cards._samples_section({"generated": samples})
    assert lines.count("Prompt:") == 1 and "the seeds 0, 1. None was chosen." in lines[2]
    assert lines[lines.index("Seed 0:") :][:6] == ["Seed 0:", "", "````text", "a\n```\n# b\ufffd", "````", ""]
    assert cards._samples_section({}) == []
