"""Names of the functions in a SavedModel."""

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from zoo.export.graph import numbering


def test_functions_whose_new_names_are_old_names_of_others_keep_their_entries():
    model = saved_model_pb2.SavedModel()
    nodes = model.meta_graphs.add().object_graph_def
    names = [f"__inference_call_{number}" for number in (2, 3, 1)]
    for number, name in enumerate(names):
        nodes.concrete_functions[name].bound_inputs.append(number)
    numbering._rename(model, dict(zip(names, [names[1], names[2], names[0]], strict=True)))
    found = {name: list(part.bound_inputs) for name, part in nodes.concrete_functions.items()}
    assert found == {names[1]: [0], names[2]: [1], names[0]: [2]}


def test_a_renumbered_model_gives_the_same_outputs(tmp_path):
    module = tf.Module()
    for _ in range(12):  # so that some functions get the old numbers of others
        tf.function(lambda x: x + 1).get_concrete_function(tf.TensorSpec([], tf.float32))
    spec = [tf.TensorSpec([None], tf.float32)]
    module.functions = [tf.function(lambda x, k=k: x * float(k), input_signature=spec) for k in range(1, 8)]
    tf.saved_model.save(module, str(tmp_path))
    numbering.renumber(tmp_path)
    numbering.renumber(tmp_path)
    found = tf.saved_model.load(str(tmp_path))
    assert [float(call(tf.constant([1.0]))[0]) for call in found.functions] == [float(k) for k in range(1, 8)]
