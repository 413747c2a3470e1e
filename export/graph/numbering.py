"""Numbers the functions of a SavedModel again, so that their names do not depend on what the process traced before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_NUMBERED = re.compile(r"(__inference_.+)_(\d+)")


def renumber(folder: Path) -> None:
    """Renames the functions in saved_model.pb: their numbers, which count everything that the process has traced, become
    1, 2, 3 in the same order. The fingerprint is computed again.

    Args:
        folder: a SavedModel that `tf.saved_model.save` wrote.
    """
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.saved_model import fingerprinting_utils

    file = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    found = []
    for graph in model.meta_graphs:
        for function in graph.graph_def.library.function:
            if parts := _NUMBERED.fullmatch(function.signature.name):
                found.append((int(parts[2]), parts[1], parts[0]))
    names = {old: f"{base}_{number}" for number, (_, base, old) in enumerate(sorted(found), start=1)}
    _rename(model, names)
    file.write_bytes(model.SerializeToString(deterministic=True))
    if (folder / "fingerprint.pb").is_file():
        fingerprinting_utils.write_fingerprint(str(folder))


def _rename(message: Any, names: dict[str, str]) -> None:
    """Replaces names in all fields of a message."""
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _rename_map(field, value, names)
        elif field.type == field.TYPE_MESSAGE:
            for part in value if field.is_repeated else [value]:
                _rename(part, names)
        elif field.type == field.TYPE_STRING:
            if field.is_repeated:
                value[:] = [names.get(part, part) for part in value]
            elif value in names:
                setattr(message, field.name, names[value])
        elif field.type == field.TYPE_BYTES and not field.is_repeated and (text := _text(value)) in names:
            setattr(message, field.name, names[text].encode())


def _rename_map(field: Any, value: Any, names: dict[str, str]) -> None:
    kind = field.message_type.fields_by_name["value"]
    if kind.type == kind.TYPE_MESSAGE:
        for key in value:
            _rename(value[key], names)
        if any(key in names for key in value):
            # A new name may be the old name of another entry, so none is written before all are read.
            renamed = {
                names.get(key, key): type(value[key]).FromString(value[key].SerializeToString()) for key in value
            }
            value.clear()
            for key, part in renamed.items():
                value[key].CopyFrom(part)
    elif kind.type == kind.TYPE_STRING:
        for key in list(value):
            if value[key] in names:
                value[key] = names[value[key]]


def _text(value: bytes) -> str:
    return value.decode("latin-1") if value.startswith(b"__inference_") else ""
