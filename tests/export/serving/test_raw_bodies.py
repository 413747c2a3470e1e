"""Golden examples of every task as raw bodies: files, texts and tables as a person sends them."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

import zoo
from served_models import SERVERS, SMALL, assert_equal, golden
from zoo import tasks
from zoo.export.serving.protocols.raw_bodies import media_of


def test_a_model_of_every_task_is_served():
    assert {zoo.datasets.load(name).task for name in SMALL} == set(tasks.list_tasks())


def cell(value):
    """Returns a value as a cell of a CSV file; a float32 number has its shortest form, which is read as the same number."""
    if isinstance(value, bytes):
        return value.decode()
    return "" if value != value else str(value)


def table(columns):
    """Returns columns as a CSV file."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*([cell(value) for value in values] for values in columns.values()), strict=True))
    return lines.getvalue().encode()


def bodies(info, inputs):
    """Yields raw bodies with the type of each and the examples that it holds."""
    columns = {key: info.entry["inputs"][key].get("columns", {}) for key in info.inputs}
    names = {key: columns[key].get("column", key) for key in info.inputs}
    kinds = {given.kind for given in info.inputs.values()}
    rows = range(len(next(iter(inputs.values()))))
    media = media_of(info)
    if kinds == {"value"}:
        yield "text/csv", table({names[key]: values for key, values in inputs.items()}), list(rows)
    elif kinds == {"series"} and media:
        (values,) = inputs.values()
        for row in rows:
            known = values[row][~np.isnan(values[row]).all(axis=1)]
            yield "text/csv", "\n".join(",".join(map(cell, step)) for step in known).encode(), [row]
    elif "image/*" in media:
        (values,) = inputs.values()
        yield from (("image/png", values[row], [row]) for row in rows)
    elif "text/csv" in media:
        single = {key: values for key, values in inputs.items() if values.ndim == 1}
        others = {key: values for key, values in inputs.items() if key not in single}
        assert all(np.all(values == info.defaults[key]) for key, values in others.items())
        yield "text/csv", table({names[key]: values for key, values in single.items()}), list(rows)
    if "text/plain" in media:
        given = {key: inputs[key] for key in info.needed}
        for row in rows:
            if all(inputs[key][row] == value for key, value in info.defaults.items() if np.ndim(value) == 0):
                yield "text/plain", b"\t".join(values[row] for values in given.values()), [row]
    elif "application/octet-stream" in media and "image/*" not in media:
        (values,) = inputs.values()
        yield from (("application/octet-stream", values[row], [row]) for row in rows)


@pytest.mark.parametrize(("server", "name"), SERVERS)
def test_golden_examples_as_raw_bodies(server, name, request):
    client = request.getfixturevalue(server)
    sent = []
    for signature, info, inputs, answers in golden(client, name):
        for media, body, rows in bodies(info, inputs):
            path = f"/predict/{name}?signature={signature}"
            status, _, content = client.send("POST", path, body, Content_Type=media, Accept="application/json")
            assert status == 200, content
            found = json.loads(content)["answers"]
            assert len(found) == len(rows)
            for row, answer in zip(rows, found, strict=True):
                assert answer.keys() == answers.keys()
                for key, value in answer.items():
                    assert_equal([value], answers[key][row : row + 1])
            sent.append(signature)
    assert "serving_default" in sent
