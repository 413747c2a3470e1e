"""Predictions of a loaded SavedModel for paths, bytes and arrays, and kinds of inputs and outputs that others add."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import tasks


@pytest.fixture(scope="module")
def loaded(base):
    return zoo.load(base / "1")


@pytest.fixture(scope="module")
def images(digits):
    return [example["image"] for example in digits.test.take(70).as_numpy_iterator()]


def test_a_loaded_model_shows_its_signatures(loaded):
    first, second, *others = repr(loaded).splitlines()
    assert first == f"SavedModel {loaded.path}, {len(others) + 1} signatures"
    assert second == "serving_default: image_bytes -> class_name, probabilities" and 1 <= len(others) <= 3


def test_paths_bytes_and_arrays_give_the_same_outputs(loaded, images, tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(images[0][..., 0]).save(file)
    items = [file, str(file), file.read_bytes(), images[0], images[0][..., 0], {"image_bytes": file}]
    first, *others = loaded.predict(items)
    for other in others:
        assert other["class_name"] == first["class_name"]
        np.testing.assert_allclose(other["probabilities"], first["probabilities"], atol=1e-6)


def test_a_batch_gives_the_outputs_of_its_items(loaded, images):
    whole = loaded.predict(images)
    assert len(whole) == 70
    for image, answer in list(zip(images, whole, strict=True))[::20]:
        (alone,) = loaded.predict([image])
        assert answer["class_name"] == alone["class_name"] and isinstance(answer["class_name"], str)
        np.testing.assert_allclose(answer["probabilities"], alone["probabilities"], atol=1e-6)


def test_outputs_that_would_be_padded_are_computed_one_by_one(loaded, images, monkeypatch):
    monkeypatch.setattr(loaded, "_batch_size", lambda signature: 1)
    assert [a["class_name"] for a in loaded.predict(images[:3])] == [
        loaded.predict([image])[0]["class_name"] for image in images[:3]
    ]


def test_numbers_are_passed_as_arrays(loaded, images, model):
    inputs = np.float32(images[:3]) / 255
    answers = loaded.predict(list(inputs), "predict")
    want = model.predict(inputs, verbose=0)
    np.testing.assert_allclose([answer["probabilities"] for answer in answers], want, atol=1e-5)


def test_errors_name_the_item(loaded, images):
    with pytest.raises(zoo.UsageError, match=r"Cannot predict for b'no picture': .*Pass another file"):
        loaded.predict([images[0], b"no picture", images[1]])
    with pytest.raises(zoo.UsageError, match=r"predict takes a list of items; received 'a.png'. Pass \['a.png'\]"):
        loaded.predict("a.png")
    with pytest.raises(zoo.UsageError, match=r"predict takes image as numbers; received the text a.png. Leave the"):
        loaded.predict(["a.png"], "predict")


def test_other_kinds_of_inputs_and_outputs_can_be_added(monkeypatch, tmp_path):
    for registry in (tasks.REQUEST_KINDS, tasks.ANSWER_KINDS):
        registry.names()
        monkeypatch.setattr(registry, "entries", dict(registry.entries))
    kind = tasks.RequestKind("FILE.rows", "rows of numbers", is_path=True, read=lambda file, entry: np.loadtxt(file))
    tasks.register_request_kind("rows", kind)
    request = tasks.Request("table", "rows", "float32", (None, 2), "two columns")
    assert request.typed == "FILE.rows"
    (tmp_path / "a.rows").write_text("1 2\n3 4\n")
    assert tasks.REQUEST_KINDS.get("rows").read(tmp_path / "a.rows", {}).tolist() == [[1, 2], [3, 4]]
    tasks.register_answer_kind("total", lambda answer, shown, labels, top: f"{sum(answer[shown.outputs[0]]):.1f}")
    assert tasks.Shown("total", ("x",)).format({"x": [1, 2.5]}, []) == "3.5"
    with pytest.raises(zoo.UsageError, match=r"Unknown kind of request 'row'. Did you mean 'rows'"):
        tasks.Request("table", "row", "float32", (None, 2), "two columns")
    with pytest.raises(zoo.UsageError, match=r"Unknown kind of answer 'totals'. Did you mean 'total'"):
        tasks.Shown("totals", ("x",)).format({"x": [1]}, [])


def test_kinds_of_an_unknown_plugin_have_substitutes(loaded, images, monkeypatch):
    facts = {
        "serving_default": {
            "inputs": {"image_bytes": {"kind": "scan"}},
            "shown": {"kind": "map", "outputs": ("class_name",), "digits": 4},
        }
    }
    monkeypatch.setattr(loaded, "_facts", facts)
    assert loaded.kinds() == {"image_bytes": "text"}
    assert loaded.describe({"class_name": "7"}) == "class_name 7"


def test_a_notebook_shows_inputs_and_outputs(loaded):
    shown = loaded._repr_html_()
    assert "<td style='text-align:left'>image_bytes</td>" in shown and "probabilities" in shown
    assert shown.count("<table>") == 1 and "serving_default" in shown
