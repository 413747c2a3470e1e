"""TensorFlow's ops with effects outside the graph, by effect."""

from __future__ import annotations

from typing import Any

from zoo.export.inspection import harmless


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_READS = _names("""
    ReadFile MatchingFiles WholeFileReader WholeFileReaderV2 TextLineReader TextLineReaderV2 TFRecordReader
    TFRecordReaderV2 FixedLengthRecordReader FixedLengthRecordReaderV2 LMDBReader TextLineDataset TFRecordDataset
    TFRecordDatasetV2 FixedLengthRecordDataset FixedLengthRecordDatasetV2 SqlDataset CSVDataset CSVDatasetV2 LMDBDataset
    LoadDataset MatchingFilesDataset ListDataset ListSnapshotChunksDataset SnapshotDatasetReader
    SnapshotNestedDatasetReader SnapshotChunkDataset ImmutableConst ExperimentalCSVDataset ExperimentalSqlDataset
    ExperimentalLMDBDataset ExperimentalMatchingFilesDataset GenerateVocabRemapping LoadAndRemapMatrix RecordInput
    FixedUnigramCandidateSampler Skipgram DecodeProtoV2 EncodeProto DTensorRestoreV2 InitializeTableFromTextFile
    InitializeTableFromTextFileV2
""")
_WRITES = _names("""
    WriteFile SaveDataset SaveDatasetV2 SnapshotDataset SnapshotDatasetV2 CacheDataset CacheDatasetV2 DatasetToTFRecord
    ExperimentalDatasetToTFRecord CreateSummaryFileWriter CreateSummaryDbWriter WriteSummary WriteScalarSummary
    WriteAudioSummary WriteGraphSummary WriteHistogramSummary WriteImageSummary WriteRawProtoSummary ImportEvent
    FlushSummaryWriter DistributedSave Save SaveSlices DebugIdentity DebugIdentityV2 DebugIdentityV3 DebugNanCount
    DebugNumericSummary DumpTensor CalibrationStatisticsSaver FileSystemSetConfiguration
""")
_NETWORK = _names("""
    RpcServer RpcClient RpcCall RpcServerStart RpcServerRegister RpcGetValue RpcCheckStatus DeleteRpcFutureResource
    RemoteCall DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3 DataServiceDatasetV4 RegisterDataset
    RegisterDatasetV2 Send Recv _Send _Recv _HostSend _HostRecv CollectiveReduce CollectiveReduceV2 CollectiveReduceV3
    CollectiveGather CollectiveGatherV2 CollectiveBcastSend CollectiveBcastSendV2 CollectiveBcastRecv
    CollectiveBcastRecvV2 CollectiveAllToAllV2 CollectiveAllToAllV3 CollectiveReduceScatterV2 CollectivePermute
    CollectiveAssignGroupV2 CollectiveInitializeCommunicator NcclAllReduce NcclReduce NcclBroadcast _NcclReduceSend
    _NcclReduceRecv _NcclBroadcastSend _NcclBroadcastRecv
""")
KINDS = {
    "reads files": _READS,
    "writes files": _WRITES,
    "uses the network": _NETWORK,
    "runs Python": ("PyFunc", "PyFuncStateless", "EagerPyFunc"),
    "calls native code by name": ("XlaCustomCall", "XlaCustomCallV2"),
    "builds a data set from a serialized graph": ("DatasetFromGraph", "DeserializeIterator"),
    "runs a program that is hidden in an attribute": ("MlirPassthroughOp", "XlaCallModule", "_XlaHostComputeMlir"),
    "ends the process": ("Abort",),
}
"""Ops that no artifact needs, by effect."""

DEVICE = _names("""
    CudnnRNN CudnnRNNV2 CudnnRNNV3 CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3 CudnnRNNParamsSize
    CudnnRNNParamsToCanonical CudnnRNNParamsToCanonicalV2 CudnnRNNCanonicalToParams CudnnRNNCanonicalToParamsV2
""")
"""Ops that run only on NVIDIA GPUs. They are harmless, but other machines cannot serve them."""

SAVES = ("SaveV2", "MergeV2Checkpoints")
RESTORES = ("RestoreV2", "RestoreSlice", "Restore")
CHECKPOINT = (*SAVES, *RESTORES)
"""The ops of every SavedModel's checkpoint."""

TABLES = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")


UNLISTED = "is not on the list of ops that only compute"


def danger(node: Any) -> str | None:
    """Returns a phrase for the dangerous effect of a node, or None."""
    from tensorflow.python.framework import op_def_registry

    def text(name: str) -> str:
        return str(node.attr[name].s.decode(errors="replace")) if name in node.attr else ""

    if node.op == "PrintV2":
        stream = text("output_stream") or "stderr"
        return None if stream in ("stderr", "stdout") or stream.startswith("log(") else f"writes to {stream}"
    if node.op == "FixedUnigramCandidateSampler" and not text("vocab_file"):
        return None
    if node.op in ("DecodeProtoV2", "EncodeProto"):  # message definitions inside the op, or in a file
        source = text("descriptor_source") or "local://"
        return None if source.startswith(("local://", "bytes://")) else f"reads {source!r}"
    for what, names in KINDS.items():
        if node.op in names:
            return what
    if op_def_registry.get(node.op) is None:  # neither TensorFlow nor XLA has it, so it needs a custom library
        return "is not a built-in op of TensorFlow"
    return None if node.op in harmless.OPS else UNLISTED
