"""Tensor files that are damaged or malicious."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

import zoo
from zoo import checkpoints
from zoo.checkpoints import tensor_files


class Evil:
    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def zipped(content: bytes, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", content)
        for name, data in members.items():
            archive.writestr(f"model/{name.replace('_', '/')}", data)
    return file.getvalue()


@pytest.mark.parametrize("wrap", [zipped, bytes], ids=["zip", "stream"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_with_code_is_rejected_and_not_executed(folder, wrap, protocol):
    (folder / "model.safetensors").unlink()
    for evil in (Evil(os.mkdir, str(folder / "made")), Evil(eval, "1 + 1"), Evil(getattr, OrderedDict, "fromkeys")):
        function = evil.call[0]
        (folder / "pytorch_model.bin").write_bytes(wrap(pickle.dumps({"x": evil}, protocol)))
        name = "__builtin__" if protocol < 3 and function.__module__ == "builtins" else function.__module__
        with pytest.raises(
            zoo.UsageError, match=rf"calls {name}.{function.__name__}, which .* it was not run\. Convert"
        ):
            checkpoints.build("bert", folder)
    assert not (folder / "made").exists()


class Pickled:
    """A hand-written pickle in PyTorch's tensor format that can contain false sizes."""

    def __init__(self, offset=0, shape=(2, 3), strides=(3, 1), count=6, kind="storage") -> None:
        self.arguments = (offset, shape, strides, count, kind)

    def bytes(self) -> bytes:
        offset, shape, strides, count, kind = self.arguments

        def number(n: object) -> bytes:
            return pickle.dumps(n, 2)[2:-1]

        pid = b"(" + number(kind) + b"ctorch\nFloatStorage\n" + number("0") + number("cpu") + number(count) + b"tQ"
        call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + number(offset) + number(shape) + number(strides)
        return b"\x80\x02}" + number("w") + call + number(False) + number(None) + b"tRs."


@pytest.mark.parametrize(
    ("pickled", "data", "said"),
    [
        (Pickled(), np.arange(6), None),
        (Pickled(offset=1, shape=(2,), strides=(4,)), np.arange(6), None),
        (Pickled(offset=1), np.arange(6), "beyond its storage"),
        (Pickled(strides=(30, 1)), np.arange(6), "beyond its storage"),
        (Pickled(shape=(10**12,), strides=(0,)), np.arange(6), "beyond its storage"),
        (Pickled(strides=(-3, 1), offset=5), np.arange(6), "negative or broken size"),
        (Pickled(shape=(2, "3")), np.arange(6), "negative or broken size"),
        (Pickled(shape=(2,)), np.arange(6), "not a view of a storage"),
        (Pickled(kind="module"), np.arange(6), "a storage of an unknown kind"),
        (Pickled(count="6"), np.arange(6), "a storage of an unknown kind"),
        (Pickled(), np.arange(5), "buffer is smaller than requested size"),
    ],
)
def test_tensors_with_false_sizes_are_rejected(tmp_path, pickled, data, said):
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(zipped(pickled.bytes(), data_0=data.astype(np.float32).tobytes()))
    if said is None:
        array = tensor_files.read_tensors(tmp_path)[0]["w"]
        offset, shape, strides, _, _ = pickled.arguments
        expected = [offset + sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(shape)]
        assert array.ravel().tolist() == expected
        return
    with pytest.raises(
        zoo.UsageError,
        match=rf"is damaged or not a file of PyTorch tensors \(.*{said}.*\)\. Replace it with a complete",
    ):
        tensor_files.read_tensors(tmp_path)


def test_messages_name_damaged_files(tmp_path, small):
    whole = (small[1] / "model.safetensors").read_bytes()
    for content in (b"", whole[:100], whole[:-4], b"\xff" * 100):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(zoo.UsageError, match=r"model.safetensors is damaged or not a safetensors file"):
            tensor_files.read_tensors(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    good = zipped(Pickled().bytes(), data_0=bytes(24))
    big = zipped(Pickled().bytes(), data_0=bytes(24), byteorder=b"big")
    listed = zipped(pickle.dumps([1, 2]))
    for content in (b"", b"nothing", good[: len(good) // 2], big, listed, pickle.dumps(3), Pickled().bytes()):
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(zoo.UsageError, match=r"pytorch_model.bin is damaged or not a file of PyTorch tensors"):
            tensor_files.read_tensors(tmp_path)


BOMBS = {
    "a deep key": (b"\x80\x02}" + b")" + b"\x85" * 300_000 + b"Ns.", "a tuple of more than 1,000 parts"),
    "a deep key by changes": (b"\x80\x02})" + b"\x85Nb" * 300_000 + b"Ns.", "a tuple of more than 1,000 parts"),
    "a deep key by the memo": (
        b"\x80\x02})" + b"\x85q\x000h\x00" * 200_000 + b"Ns.",
        "a tuple of more than 1,000 parts",
    ),
    "a wide key": (b"\x80\x02})" + b"2\x86" * 60 + b"Ns.", "a tuple of more than 1,000 parts"),
    "a deep set": (b"\x80\x04}" + b"(" * 2000 + b"\x91" * 2000 + b"Ns.", "a tuple of more than 1,000 parts"),
    "a far memo": (b"\x80\x02}r\xff\xff\xff\x7f.", "a memo of 2147483647 places after 2 instructions"),
    "a far memo in words": (b"}p9999999999\n.", "a memo of 9999999999 places after 1 instructions"),
    "many instructions": (b"\x80\x02" + b"}0" * 600_000 + b"}.", "more than 1,000,000 instructions"),
    "a long text": (b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b".", "but only 1 remain"),
    "a long array": (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".", "but only 1 remain"),
    "a mark that is missing": (b"\x80\x02}t.", ""),
    "a name that is no text": (
        Pickled().bytes().replace(b"}X\x01\x00\x00\x00wq\x00", b"}K\x01"),
        "name is not a string",
    ),
}

BOMB = """
import resource, sys
from zoo.checkpoints import tensor_files
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
for folder in sys.argv[1:]:
    try:
        tensor_files.read_tensors(folder)
    except tensor_files.UsageError as error:
        print(error)
"""


def test_a_pickle_that_would_exhaust_memory_is_rejected(tmp_path):
    """Runs in a separate process, because the pickle would exhaust the memory of this one."""
    old = b"".join(pickle.dumps(part, 2) for part in (tensor_files._MAGIC, 1001, {"little_endian": True}))
    files = {name: (zipped(content, data_0=bytes(24)), said) for name, (content, said) in BOMBS.items()}
    files |= {
        f"{name}, old": (old + content, said)
        for name, (content, said) in BOMBS.items()
        if said not in ("name is not a string", "more than 1,000,000 instructions")
    }
    for count in (2**40, -1):
        block = Pickled(count=count).bytes() + pickle.dumps(["0"]) + struct.pack("<q", count) + bytes(24)
        said = f"a storage of {2**42} bytes, but 24 are left" if count > 0 else "a storage of an unknown kind"
        files[f"a storage of {count}"] = (old + block, said)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("model/data.pkl", Pickled().bytes())
        archive.writestr("model/byteorder", bytes(2**26), zipfile.ZIP_DEFLATED)
    files["packed"] = (packed.getvalue(), "compressed parts, unlike PyTorch's files")
    good = zipped(Pickled().bytes(), data_0=bytes(24))
    sizes = struct.pack("<LL", 24, 24)
    assert good.count(sizes) == 2
    files["long parts"] = (good.replace(sizes, struct.pack("<LL", 2**31, 2**31)), "parts that are longer than the file")
    for number, (content, _) in enumerate(files.values()):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "pytorch_model.bin").write_bytes(content)
    folders = [str(tmp_path / str(number)) for number in range(len(files))]
    done = subprocess.run([sys.executable, "-P", "-c", BOMB, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for (name, (_, said)), line in zip(files.items(), done.stdout.splitlines(), strict=True):
        assert "pytorch_model.bin is damaged or not a file of PyTorch tensors" in line and said in line, (name, line)


def test_invalid_shard_indexes_are_rejected(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    for content, message in {
        "{": r"is not an index of shards",
        '{"weight_map": 3}': r"is not an index of shards",
        '{"weight_map": {"w": "../model.safetensors"}}': (
            r"names the shard '../model.safetensors'; expected a file in the same folder"
        ),
        '{"weight_map": {"w": "a.safetensors"}}': r"names the shard a.safetensors, which is missing. Put it into",
    }.items():
        index.write_text(content)
        with pytest.raises(zoo.UsageError, match=message):
            tensor_files.read_tensors(tmp_path)
