"""Descriptions of artifacts, of third-party SavedModels and of hostile SavedModels, read from their files only."""

from __future__ import annotations

import json

import keras
import pytest
import tensorflow as tf

import zoo
from artifact_parts import written
from zoo.errors import UsageError
from zoo.export import describe
from zoo.export.inspection import operations
from zoo.scripts import cli


def write(prepared, folder):
    """Writes an artifact with everything that a description reads."""
    return written(prepared.build(seed=0), prepared.interface, folder, {"accuracy": 0.5, "split": "test"})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    prepared = zoo.datasets.load("commands").prepare("embedding_lstm", embedding_dim=4, lstm_units=4)
    return write(prepared, tmp_path_factory.mktemp("described") / "commands" / "1")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A SavedModel with every dangerous operation that a signature can run."""
    folder = tmp_path_factory.mktemp("hostile")
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def reads(text):
        return {"content": tf.map_fn(tf.io.read_file, text)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def leaves(x):
        tf.print("secret", output_stream=f"file://{folder}/printed")
        tf.raw_ops.SaveV2(prefix=f"{folder}/saved", tensor_names=["a"], shape_and_slices=[""], tensors=[x])
        y = tf.numpy_function(lambda a: a, [x], tf.float32)
        return {"y": tf.ensure_shape(y, [None, 3])}

    module.reads, module.leaves = reads, leaves
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": reads, "leaves": leaves})
    return folder / "model"


def rewritten(source, target, change):
    """Writes a modified copy of saved_model.pb; a description needs no other file."""
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((source / "saved_model.pb").read_bytes())
    change(proto.meta_graphs[0])
    target.mkdir()
    (target / "saved_model.pb").write_bytes(proto.SerializeToString())
    return target


def test_an_artifact_is_described_without_dangerous_ops(saved):
    facts = describe(saved.parent).facts
    assert facts["dangerous"] == []
    assert {finding.split(" ")[0] for finding in facts["machinery"]} == {
        *("SaveV2", "RestoreV2", "MergeV2Checkpoints", "InitializeTableFromTextFileV2"),
    }
    assert facts["signatures"]["serving_default"]["inputs"] == {
        "text": {"dtype": "string", "shape": [None], "description": "UTF-8"}
    }
    assert facts["labels"] == (saved / "assets" / "labels.txt").read_text().splitlines()
    assert facts["metrics"] == {"accuracy": 0.5, "split": "test"}
    assert facts["tensorflow"]["written_by"] == tf.__version__
    assert facts["hashes"]["saved_model.pb"] and facts["sizes"]["saved_model.pb"] > 1000
    assert facts["model"]["name"] == "embedding_lstm" and facts["parameters"] > 100
    text = describe(saved).text()
    assert "input   text: string (batch)" in text and "No dangerous op" in text


def test_the_command_prints_json(saved, capsys):
    assert cli.main(["describe", str(saved), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "text_classification"


def test_the_cost_of_expensive_requests_is_measured(saved, capsys):
    assert cli.main(["benchmark", "requests", str(saved), "--megabytes", "0.01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 25 and lines[1].split()[:3] == ["1", "of", "words"]
    assert all(float(line.split()[-2]) < 5 for line in lines[1:])


def test_all_dangerous_ops_of_a_hostile_savedmodel_are_named(hostile):
    facts = describe(hostile).facts
    told = sorted(finding.split(" (node")[0] for finding in facts["dangerous"])
    assert told == [
        f"PrintV2 writes to file://{hostile.parent}/printed",
        "PyFunc runs Python",
        "ReadFile reads files",
        "SaveV2 reads or writes files outside of saving and loading",
    ]
    assert all(" in function " in finding for finding in facts["dangerous"])
    assert "4 dangerous ops" in describe(hostile).text()
    with pytest.raises(UsageError, match=r"is not loaded, because it has dangerous ops: .*`zoo describe .*` lists all"):
        zoo.export.load(hostile)
    assert sorted(path.name for path in hostile.parent.iterdir()) == ["model"]


def test_custom_ops_and_tables_from_computed_paths_are_named(saved, tmp_path):
    def custom(graph):
        graph.graph_def.library.function[0].node_def.add(name="mine", op="MyOwnOp")

    found = operations.scan(operations.read(rewritten(saved, tmp_path / "custom", custom))).dangerous
    assert [(f.op, f.node, f.what) for f in found] == [("MyOwnOp", "mine", "is not a built-in op of TensorFlow")]

    def chosen(graph):
        for node in graph.graph_def.node:
            if node.name.startswith("asset_path_initializer"):
                node.op = "Const"
                node.attr["value"].tensor.string_val.append(b"/etc/passwd")
            elif node.op == "ReadVariableOp":
                node.op, node.input[0] = "Identity", "asset_path_initializer"
        del graph.asset_file_def[:]

    found = operations.scan(operations.read(rewritten(saved, tmp_path / "chosen", chosen))).dangerous
    assert {f.what for f in found} == {"reads '/etc/passwd', which is not an asset"}


def test_a_savedmodel_of_keras_is_described_without_recorded_facts(tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(3)(inputs)).export(str(tmp_path / "keras"), verbose=False)
    facts = describe(tmp_path / "keras").facts
    assert (facts["parameters"], facts["model"], facts["labels"], facts["dangerous"]) == (15, None, [], [])


def test_invalid_savedmodels_are_rejected(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff nothing")
    with pytest.raises(UsageError, match=r"saved_model.pb cannot be read as a SavedModel: .*Pass another folder"):
        describe(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data"),
    [
        *(("cnn", "digits"), ("lstm", "seasons"), ("rnn", "tagged_commands"), ("transformer", "commands")),
        *(("seq2seq_rnn", "number_words"), ("seq2seq_transformer", "number_words"), ("matrix_factorization", "tastes")),
    ],
)
def test_exports_of_all_families_have_no_dangerous_ops(name, data, tmp_path):
    folder = write(zoo.datasets.load(data).prepare(name), tmp_path / "1")
    assert operations.scan(operations.read(folder)).dangerous == []
