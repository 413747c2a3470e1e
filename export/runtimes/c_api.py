"""TensorFlow's C API, tested with a small C program. The program is compiled during the verification with this machine's
compiler and the headers and libraries of TensorFlow's Python package."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo.errors import one_line
from zoo.export.inspection import operations
from zoo.export.standalone import arrays
from zoo.export.standalone.runtime import Runtime

SOURCE = Path(__file__).with_name("c_api.c")
LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
TIME_LIMIT = 600.0
"""Time limit of the program in seconds."""

LIMIT = 64
"""Maximum number of inputs or outputs, as in c_api.c."""

_STRING = 7  # of TF_DataType


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "cc"))


def missing() -> str | None:
    """Returns a message about what this machine lacks, or None."""
    import tensorflow as tf

    folder = Path(tf.sysconfig.get_lib())
    if _compiler() is None:
        return "no C compiler; install one, or set CC to its path"
    absent = [name for name in (*LIBRARIES, "include/tensorflow/c/c_api.h") if not (folder / name).is_file()]
    return f"this TensorFlow has no {', '.join(absent)}" if absent else None


def compile_program(folder: Path) -> Path:
    """Compiles the program into a folder.

    Raises:
        subprocess.CalledProcessError: the compilation failed; `stderr` has the message.
    """
    import tensorflow as tf

    libraries, compiler, stub = Path(tf.sysconfig.get_lib()), str(_compiler()), folder / "libstub.so"

    def run(*words: str | Path) -> None:
        subprocess.run([compiler, *map(str, words)], check=True, capture_output=True, text=True)

    # The linker needs five seconds to read the million symbols of the library. It gets a stub library of the same name
    # with only the symbols in use.
    used = sorted(set(re.findall(r"\bTF_[A-Z]\w*(?=\()", SOURCE.read_text(encoding="utf-8"))))
    (folder / "stub.c").write_text("".join(f"void {name}(void) {{}}\n" for name in used), encoding="utf-8")
    run("-shared", "-fPIC", f"-Wl,-soname,{LIBRARIES[0]}", folder / "stub.c", "-o", stub)
    program = folder / "c_api"
    run("-std=c11", "-O1", f"-I{libraries / 'include'}", SOURCE, stub, f"-Wl,-rpath,{libraries}", "-o", program)
    return program


def answer(
    directory: Path, questions: Mapping[str, tuple[Mapping[str, np.ndarray], Sequence[tuple[int, int]]]], folder: Path
) -> dict[str, Any]:
    """Compiles the program and runs all signatures in one process.

    Args:
        directory: the SavedModel.
        questions: for each signature, the inputs and a list of (batch size, number of rows); (0, 0) means all rows in one
            call.
        folder: folder for temporary files.

    Returns:
        `version` and `answers` by signature and batch size, or `cannot` or `error` with a reason.
    """
    graph = operations.read(directory)
    signatures, runs = graph.signature_def, []
    for name, (_, portions) in questions.items():
        if name not in signatures:
            return {"error": f"there is no signature {name}"}
        for size, some in portions:
            runs += [(name, size, start, min(start + size, some)) for start in range(0, some, size)] if size else []
            runs += [] if size else [(name, 0, 0, 0)]
    refused = _refused(graph, list(questions))
    if refused:
        return {"cannot": refused}
    with (folder / "requests").open("wb") as file:
        file.write(struct.pack("<q", len(runs)))
        for name, size, start, stop in runs:
            given = questions[name][0]
            _write_run(file, signatures[name], {k: v[start:stop] for k, v in given.items()} if size else given)
    try:
        program = compile_program(folder)
    except subprocess.CalledProcessError as error:
        return {"cannot": f"the C compiler rejects the program: {one_line(RuntimeError(error.stderr), 300)}"}
    try:
        words = [str(program), str(directory.absolute()), str(folder / "requests"), str(folder / "answers")]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            words, env=environment, check=True, capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT
        )
    except subprocess.CalledProcessError as error:
        last = [line for line in error.stderr.splitlines() if line.strip()][-1:] or ["no message"]
        why = f"exit status {error.returncode}: {one_line(RuntimeError(last[0]), 300)}"
        return {"error" if _has_loaded(error.stdout) else "cannot": why}
    except subprocess.TimeoutExpired as error:
        why = f"still running after {TIME_LIMIT:.0f} seconds"
        return {"error" if _has_loaded(error.stdout) else "cannot": why}
    parts: dict[str, dict[int, list[dict[str, np.ndarray]]]] = {}
    with (folder / "answers").open("rb") as file:
        for name, size, *_ in runs:
            got = {key: _read_tensor(file) for key in sorted(signatures[name].outputs)}
            parts.setdefault(name, {}).setdefault(size, []).append(got)
    answers = {
        name: {
            size: {key: arrays.joined([got[key] for got in some]) for key in some[0]} for size, some in by_size.items()
        }
        for name, by_size in parts.items()
    }
    return {"version": done.stdout.split()[-1], "answers": answers}


def _refused(graph: Any, names: Sequence[str]) -> str | None:
    """Returns why the program cannot run the signatures, or None."""
    if list(graph.meta_info_def.tags) != ["serve"]:
        return f"the graph has the tags {list(graph.meta_info_def.tags)}, but the program needs ['serve']"
    for name in names:
        signature = graph.signature_def[name]
        for what, count in (("inputs", len(signature.inputs)), ("outputs", len(signature.outputs))):
            if count > LIMIT:
                return f"{name} has {count} {what}, but the program supports at most {LIMIT}"
    return None


def _has_loaded(said: str | bytes | None) -> bool:
    """Whether the program has loaded the model."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said or ""
    return "LOADED" in text.splitlines()


def _write_run(file: BinaryIO, signature: Any, inputs: Mapping[str, np.ndarray]) -> None:
    file.write(struct.pack("<q", len(signature.inputs)))
    for key in sorted(signature.inputs):
        _write_text(file, signature.inputs[key].name.encode())
        _write_tensor(file, signature.inputs[key].dtype, inputs[key])
    file.write(struct.pack("<q", len(signature.outputs)))
    for key in sorted(signature.outputs):
        _write_text(file, signature.outputs[key].name.encode())


def _write_text(file: BinaryIO, text: bytes) -> None:
    file.write(struct.pack("<q", len(text)) + text)


def _write_tensor(file: BinaryIO, dtype: int, value: np.ndarray) -> None:
    file.write(struct.pack(f"<{2 + value.ndim}q", dtype, value.ndim, *value.shape))
    if dtype == _STRING:
        for text in value.ravel().tolist():
            _write_text(file, text)
    else:
        _write_text(file, np.ascontiguousarray(value).tobytes())


def _read_tensor(file: BinaryIO) -> np.ndarray:
    from tensorflow.python.framework import dtypes

    dtype, rank = struct.unpack("<2q", file.read(16))
    shape = struct.unpack(f"<{rank}q", file.read(8 * rank))
    if dtype != _STRING:
        return np.frombuffer(_read_text(file), dtypes.as_dtype(dtype).as_numpy_dtype).reshape(shape)
    texts = np.empty(int(np.prod(shape, dtype=np.int64)), object)
    texts[:] = [_read_text(file) for _ in range(texts.size)]
    return texts.reshape(shape)


def _read_text(file: BinaryIO) -> bytes:
    (length,) = struct.unpack("<q", file.read(8))
    return file.read(length)


RUNTIME = Runtime("C API", tolerance=1e-4, missing=missing, answer_all=answer)
