"""Files of models that a run or a callback writes: what loads them, and how they are compiled."""

from __future__ import annotations

import importlib
import json

import keras
import numpy as np
import pytest

import zoo
from user_models import X, Y, small
from zoo import keras_names

_LOAD = """
import json, sys
IMPORTS
import keras
found = []
for file in sys.argv[1:]:
    for compile in (True, False):
        model = keras.saving.load_model(file, compile=compile)
        found.append([model.compiled, model.loss if isinstance(model.loss, str) else None])
print(json.dumps([found, "zoo" in sys.modules]))
"""


ZOO = "import zoo, importlib.util; importlib.util.find_spec('keras')"  # many libraries look whether Keras is there


def loaded(run_python, imports, *files):
    return json.loads(run_python(_LOAD.replace("IMPORTS", imports), *files, kind="tensorflow").stdout.splitlines()[-1])


@pytest.mark.slow
def test_files_of_a_plain_model_load_without_this_package(tmp_path, run_python):
    model = small(optimizer=keras.optimizers.Adam(0.1), metrics=["accuracy"])
    config = zoo.TrainConfig(epochs=1, batch_size=5)
    callback = keras.callbacks.ModelCheckpoint(tmp_path / "checkpoint.keras")
    zoo.train(model, (X, Y), config, run_directory=tmp_path / "run", callbacks=[callback], verbose=0)
    files = [tmp_path / "run" / "model.keras", tmp_path / "checkpoint.keras"]
    loss = "sparse_categorical_crossentropy"
    assert loaded(run_python, "", *files) == [[[True, loss], [False, None]] * 2, False]
    again = keras.saving.load_model(files[0])
    for trained in (model, again):
        trained.fit(X, Y, batch_size=10, verbose=0)
    np.testing.assert_allclose(again.get_weights()[0], model.get_weights()[0], rtol=1e-5)
    assert int(again.optimizer.iterations) == 3


def test_models_of_this_package_load_after_its_import_alone(tmp_path, run_python):
    files = [tmp_path / "text.keras", tmp_path / "series.keras", tmp_path / "compiled.keras"]
    models = [
        zoo.build("embedding_lstm", vocab_size=5, num_classes=2, embedding_dim=2, lstm_units=2),
        zoo.build("attention", **zoo.get_spec("attention").tiny),
        zoo.build("lstm", **zoo.get_spec("lstm").tiny),
    ]
    models[2].compile(zoo.training.optimizers.FusedAdam(), zoo.metrics.SquaredError())
    for model, file in zip(models, files, strict=True):
        model.save(file)
    assert loaded(run_python, ZOO, *files[:2])[0] == [[False, None]] * 4
    found, _ = loaded(run_python, "import keras, zoo", files[2])
    assert found == [[True, None], [False, None]]  # the loss is an object, of which the JSON above keeps no name


def test_every_registered_class_is_found():
    for name, module in keras_names.registered_classes().items():
        cls = getattr(importlib.import_module(module), name)
        assert keras.saving.get_registered_name(cls) == f"zoo>{name}"
        assert keras.saving.get_registered_object(f"zoo>{name}") is cls
    known = [n for n in keras.saving.get_custom_objects() if n.startswith("zoo>")]
    assert {*known} == {f"zoo>{name}" for name in keras_names.registered_classes()}
