"""Dangerous operations of a graph are found in any disguise; operations that loading and saving need are recognized."""

from __future__ import annotations

import re

import pytest
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, op_def_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from zoo.errors import UsageError, printable
from zoo.export import describe
from zoo.export.inspection import dangers, harmless, operations
from zoo.export.verdict import Check, Verification


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A SavedModel with a table from an asset, and with a variable."""
    folder = tmp_path_factory.mktemp("operations")
    (folder / "words.txt").write_text("a\nb\n")
    module = tf.Module()
    source = tf.lookup.TextFileInitializer(str(folder / "words.txt"), tf.string, -2, tf.int64, -1)
    module.table, module.weight = tf.lookup.StaticHashTable(source, -1), tf.Variable(2.0)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def look(text):
        return {"y": tf.cast(module.table.lookup(text), tf.float32) * module.weight}

    module.look = look
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": look})
    return folder / "model"


@pytest.fixture
def graph(saved):
    """The graph of the SavedModel, to be modified."""
    return operations.read(saved)


def body(graph, part):
    return next(f for f in graph.graph_def.library.function if part in f.signature.name)


def dangerous(graph):
    return {(finding.op, finding.what) for finding in operations.scan(graph).dangerous}


def test_standard_savedmodel_ops_are_not_dangerous(graph):
    found = operations.scan(graph)
    assert found.dangerous == []
    assert {f.op for f in found.machinery} == {"SaveV2", "RestoreV2", "MergeV2Checkpoints", *dangers.TABLES[1:]}


UNKNOWN = "reads a file that is not proven to be an asset"


def test_table_files_are_assets_only_if_proven(graph):
    """The table reads a file that a node derives from the asset's name, or an empty name."""
    function = body(graph, "initializer")
    table = next(node for node in function.node_def if node.op in dangers.TABLES)
    asset = table.input[1]
    for op, inputs in (
        ("StringJoin", [asset, asset]),
        ("DecodeBase64", [asset]),
        ("PlaceholderWithDefault", [asset]),
        ("ReadVariableOp", [asset]),
    ):
        node = function.node_def.add(name="odd", op=op, input=inputs)
        table.input[1] = f"odd:{op}:0"
        assert dangerous(graph) == {(table.op, UNKNOWN)}, op
        function.node_def.remove(node)
    for i in range(60):
        function.node_def.add(name=f"i{i}", op="Identity", input=[f"i{i - 1}:output:0" if i else asset])
    table.input[1] = "i3:output:0"
    assert dangerous(graph) == set()
    table.input[1] = "i59:output:0"
    assert dangerous(graph) == {(table.op, UNKNOWN)}
    node = function.node_def.add(name="fixed", op="Const")
    node.attr["value"].tensor.string_val.append(b"/etc/passwd")
    table.input[1] = "fixed:output:0"
    assert dangerous(graph) == {(table.op, "reads '/etc/passwd', which is not an asset")}


def test_a_table_bound_to_another_object_is_dangerous(graph):
    """Python loaders follow the objects, other loaders follow the graph: both must reach the asset."""
    bound = graph.object_graph_def.concrete_functions[body(graph, "initializer").signature.name].bound_inputs
    place = next(i for i, n in enumerate(bound) if graph.object_graph_def.nodes[n].WhichOneof("kind") == "asset")
    kept = bound[place]
    graph.object_graph_def.nodes.add().constant.operation = "chosen"
    chosen = graph.graph_def.node.add(name="chosen", op="Const")
    chosen.attr["value"].tensor.string_val.append(b"/etc/passwd")
    bound[place] = len(graph.object_graph_def.nodes) - 1
    assert {what for _, what in dangerous(graph)} == {"reads '/etc/passwd', which is not an asset"}
    bound[place] = kept
    assert not dangerous(graph)
    graph.graph_def.node.add(name="late", op="AssignVariableOp", input=["Variable", "chosen"])
    assert {what for _, what in dangerous(graph)} == {"reads '/etc/passwd', which is not an asset"}


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "a/../../b", "gs://bucket/words", "", "."])
def test_an_asset_outside_of_its_folder_is_dangerous(graph, name):
    graph.asset_file_def[0].filename = name
    assert dangerous(graph) == {("asset_file_def", f"names {name!r}, which is outside assets/")}


def test_saving_within_a_restore_function_is_dangerous(graph):
    """Restoring runs every time the model is loaded."""
    function = body(graph, "traced_restore")
    restore = next(node for node in function.node_def if node.op == "RestoreV2")
    function.node_def.add(name="hidden", op="SaveV2", input=[*restore.input, restore.input[0]])
    assert dangerous(graph) == {("SaveV2", "reads or writes files outside of saving and loading")}


def test_only_the_savers_file_is_accepted_as_checkpoint(graph):
    other = "reads or writes a file that is not the SavedModel's checkpoint"
    function = body(graph, "traced_restore")
    restore = next(node for node in function.node_def if node.op == "RestoreV2")
    kept = restore.input[0]
    node = function.node_def.add(name="fixed", op="Const")
    node.attr["value"].tensor.string_val.append(b"/../../../etc/passwd")
    restore.input[0] = "fixed:output:0"
    assert dangerous(graph) == {("RestoreV2", other)}
    function.node_def.add(name="climbs", op="StringJoin", input=[kept, "fixed:output:0"])
    restore.input[0] = "climbs:output:0"
    assert dangerous(graph) == {("RestoreV2", other)}
    restore.input[0] = kept
    assert not dangerous(graph)
    given = next(n for n in graph.graph_def.node if n.attr["f"].func.name == function.signature.name)
    given.input[0] = graph.asset_file_def[0].tensor_info.name
    assert dangerous(graph) == {("RestoreV2", other)}


def test_danger_of_some_ops_depends_on_their_attributes(graph):
    function = body(graph, "initializer")
    for op, attribute, good, bad in (
        ("DecodeProtoV2", "descriptor_source", b"local://", b"/tmp/messages"),
        ("FixedUnigramCandidateSampler", "vocab_file", b"", b"/etc/passwd"),
    ):
        node = function.node_def.add(name="odd", op=op)
        node.attr[attribute].s = good
        assert not dangerous(graph)
        node.attr[attribute].s = bad
        assert [found_op for found_op, _ in dangerous(graph)] == [op]
        function.node_def.remove(node)


def test_ops_that_are_not_known_to_be_harmless_are_dangerous(graph):
    """A list of dangerous ops cannot be complete."""
    node = body(graph, "initializer").node_def.add(name="odd")
    for op in ("DatasetFromGraph", "ReduceDataset", "IteratorGetNext", "XlaCallModule", "TPUCompile", "QueueDequeueV2"):
        node.op = op
        assert [found_op for found_op, _ in dangerous(graph)] == [op]
        assert not operations.check(graph, ours=False).passed


@pytest.mark.parametrize("place", ["constant", "packed", "attribute"])
def test_graphs_in_strings_are_searched(graph, place):
    """`DatasetFromGraph` runs the graph that such a string holds."""
    inner = graph_pb2.GraphDef()
    inner.node.add(name="a", op="Const").attr["value"].tensor.string_val.append(b"x")
    hidden = inner.library.function.add().node_def.add(name="b", op="WriteFile", input=["a", "a"])
    node = body(graph, "initializer").node_def.add(name="odd", op="Const" if place != "attribute" else "Identity")
    tensor = node.attr["value"].tensor
    if place == "attribute":
        node.attr["loc"].s = inner.SerializeToString()
    elif place == "packed":
        tensor.dtype, tensor.tensor_content = types_pb2.DT_STRING, b"\x04" + b"text"
    else:
        tensor.string_val.append(inner.SerializeToString())
    found = {("Const", "holds strings in a form that is not searched")}
    if place != "packed":
        found = {("WriteFile", f"writes files and is hidden in a string of {node.op}")}
        hidden.op = "Identity"
        node.attr["value"].tensor.string_val.append(inner.SerializeToString())
    assert dangerous(graph) == found
    assert not operations.check(graph, ours=False).passed


def test_device_specific_ops_are_harmless_but_rejected_in_artifacts(graph):
    body(graph, "initializer").node_def.add(name="lstm", op="CudnnRNNV3")
    assert dangerous(graph) == set()
    assert operations.check(graph, ours=False).passed
    verdict = operations.check(graph)
    assert verdict.passed is False and "CudnnRNNV3 runs only on NVIDIA GPUs" in verdict.detail


def test_ambiguous_savedmodels_are_rejected(saved, tmp_path):
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((saved / "saved_model.pb").read_bytes())
    (tmp_path / "saved_model.pb").write_bytes(proto.SerializeToString())
    (tmp_path / "saved_model.cpb").touch()
    message = r"contains both saved_model.cpb and saved_model.pb.*Pass a SavedModel with only one"
    with pytest.raises(UsageError, match=message):
        operations.read(tmp_path)
    (tmp_path / "saved_model.cpb").unlink()
    proto.meta_graphs.add().CopyFrom(proto.meta_graphs[0])
    (tmp_path / "saved_model.pb").write_bytes(proto.SerializeToString())
    with pytest.raises(UsageError, match=r"contains 2 graphs, tagged 'serve' and 'serve'.*expected one"):
        operations.read(tmp_path)


def test_unprintable_names_are_escaped(graph, tmp_path):
    evil = "y\n\x1b[2Jok      verified\u202e"
    signature = graph.signature_def["serving_default"]
    signature.outputs[evil].CopyFrom(signature.outputs["y"])
    body(graph, "initializer").node_def.add(name=evil, op="ReadFile")
    proto = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    proto.meta_graphs.add().CopyFrom(graph)
    (tmp_path / "saved_model.pb").write_bytes(proto.SerializeToString())
    text = describe(tmp_path).text()
    verdict = Verification(tmp_path, (operations.check(graph), Check(evil, True, detail=evil)), {}).table()
    for shown in (text, verdict):
        assert all(line.isprintable() for line in shown.splitlines())
        assert "y\\n\\x1b[2Jok      verified\\u202e" in shown
        assert "\nok      verified" not in shown
    assert printable("größer, 10 %") == "größer, 10 %"


# --- TensorFlow's registry -------------------------------------------------------------------------------------------

REACHES = re.compile(
    r"(^|_)(file|files|filename|filenames|path|paths|pattern|address|addresses|host|hostport|url|urls|prefix|dir|"
    r"directory|server|uri|descriptor_source)(_|$)"
)
NAMES = re.compile(
    r"Collective|Nccl|Rpc|Cudnn|PyFunc|TFRecord|LMDB|Sql|CSVDataset|ReadFile|WriteFile|Summary(File|Db)Writer|CustomCall"
)
HARMLESS = {
    "RegexReplace": "the pattern is a regular expression",
    "RegexFullMatch": "the pattern is a regular expression",
    "StaticRegexReplace": "the pattern is a regular expression",
    "StaticRegexFullMatch": "the pattern is a regular expression",
    "ShardedFilename": "joins strings",
    "ShardedFilespec": "joins strings",
    "CTCBeamSearchDecoder": "paths of a search",
    "TensorSliceDataset": "a flag that says what the strings are",
    "SetStatsAggregatorDataset": "the prefix of a counter's name",
    "ExperimentalSetStatsAggregatorDataset": "the prefix of a counter's name",
    "ConfigureAndInitializeGlobalTPU": "a flag, and a kernel for TPUs alone",
    "TPUReplicateMetadata": "the name of a core",
    "_TPUReplicate": "the name of a core",
    "_XlaHostComputeMlir": "a program of XLA's own",
    **dict.fromkeys(
        ("_FusedConv2D", "_QuantizedMatMul", "_FusedQuantizedConv2D", "_FusedQuantizedDepthwiseConv2D"),
        "tensors that lie in the host's memory",
    ),
    "_MklNativeFusedConv2D": "tensors that lie in the host's memory",
}


def registered():
    from tensorflow.python.client import pywrap_tf_session

    held = op_def_pb2.OpList()
    buffer = pywrap_tf_session.TF_GetAllOpList()
    held.ParseFromString(buffer if isinstance(buffer, bytes) else pywrap_tf_session.TF_GetBuffer(buffer))
    return held.op


def reaches(op):
    names = [part.name for part in (*op.input_arg, *op.attr)]
    return NAMES.search(op.name) is not None or any(REACHES.search(name) for name in names)


def test_every_op_with_file_or_address_is_classified():
    listed = {name for names in dangers.KINDS.values() for name in names}
    listed |= {*dangers.DEVICE, *dangers.CHECKPOINT, *dangers.TABLES}
    suspects = {op.name for op in registered() if reaches(op)}
    assert len(suspects) > 80
    assert suspects - listed - set(HARMLESS) == set()
    assert set(HARMLESS) - suspects - {"ShardedFilename", "ShardedFilespec"} == set()
    assert listed <= {op.name for op in registered()}
    assert not listed & harmless.OPS
    assert {op.name for op in registered()} >= harmless.OPS
    assert not [op for op in harmless.OPS if re.search("Dataset|Iterator|Queue|Reader$|Collective|TPU", op)]
