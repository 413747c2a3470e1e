"""Inputs that a client of a SavedModel need not send."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from zoo.export.graph import default_inputs
from zoo.export.graph.request_checks import checked
from zoo.tasks import Request

REQUESTS = {
    "text": Request("text", "text", "string", (), "UTF-8"),
    "seed": Request("seed", "number", "int64", (), "of the draws", default=7),
    "heat": Request("heat", "number", "float32", (), "of the draws", default=0.5),
    "stop": Request("stop", "texts", "string", (None,), "ends", default=["x", ""]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A SavedModel that joins its inputs, row by row."""

    def join(**inputs):
        given = checked(inputs, with_defaults=("seed", "heat", "stop"))
        parts = [given["text"], tf.strings.as_string(given["seed"]), tf.strings.as_string(given["heat"], precision=1)]
        return {"joined": tf.strings.join([*parts, tf.strings.reduce_join(given["stop"], axis=1)], ",")}

    specs = {name: request.spec for name, request in REQUESTS.items()}
    module, path = tf.Module(), tmp_path_factory.mktemp("saved")
    signatures = {"sample": tf.function(join, autograph=False).get_concrete_function(**specs)}
    tf.saved_model.save(module, str(path), signatures=signatures)
    default_inputs.write(path, {"sample": ["seed", "heat", "stop"]}, REQUESTS)
    return path


def run(folder, **given):
    """What a session computes, as the C API and TensorFlow Serving do."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(folder)).signature_def["sample"]
        fed = {signature.inputs[name].name: value for name, value in given.items()}
        return session.run(signature.outputs["joined"].name, fed).tolist()


def test_a_session_needs_only_the_inputs_without_a_default(folder):
    assert run(folder, text=[b"a", b"b"]) == [b"a,7,0.5,x", b"b,7,0.5,x"]
    assert run(folder, text=[b"a", b"b"], seed=[1, 2]) == [b"a,1,0.5,x", b"b,2,0.5,x"]
    assert run(folder, text=[b"a", b"b"], heat=[0.0], stop=[[b"y"]]) == [b"a,7,0.0,y", b"b,7,0.0,y"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="text and seed have different numbers of rows"):
        run(folder, text=[b"a", b"b", b"c"], seed=[1, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="must feed a value for placeholder"):
        run(folder, seed=[1])


def test_the_signature_declares_the_defaults(folder):
    graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
    found = {name: tf.make_ndarray(value) for name, value in graph.signature_def["sample"].defaults.items()}
    assert found["seed"].dtype == np.int64 and found["seed"].tolist() == [7]
    assert found["heat"].dtype == np.float32 and found["heat"].tolist() == [0.5]
    assert found["stop"].tolist() == [[b"x", b""]] and sorted(found) == ["heat", "seed", "stop"]


def test_functions_take_one_row_for_all(folder):
    sample = tf.saved_model.load(str(folder)).signatures["sample"]
    given = {"seed": tf.constant([3], tf.int64), "heat": tf.constant([1.0]), "stop": tf.constant([["z"]])}
    assert sample(text=tf.constant(["a", "b"]), **given)["joined"].numpy().tolist() == [b"a,3,1.0,z", b"b,3,1.0,z"]
