"""SavedModels that generate texts, in another version of TensorFlow. Run it once for each version that matters:

pip install --target /tmp/other tensorflow-cpu==2.17.1
ZOO_OTHER_TENSORFLOW=/tmp/other python -P -m pytest -m slow tests/export/test_other_tensorflow.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import zoo

OTHER = os.environ.get("ZOO_OTHER_TENSORFLOW")
ASK = """
import json, sys
import tensorflow as tf
requests = json.loads(sys.argv[2])
found = {}
loaded = tf.saved_model.load(sys.argv[1])
for name, given in requests.items():
    ask = loaded.signatures[name]
    kinds = ask.structured_input_signature[1]
    answer = ask(**{key: tf.constant(value, kinds[key].dtype) for key, value in given.items()})
    found[name] = [text.decode() for text in answer["text"].numpy()]
print(json.dumps([tf.__version__, found]))
"""


@pytest.mark.slow
@pytest.mark.skipif(OTHER is None, reason="ZOO_OTHER_TENSORFLOW names no folder with another TensorFlow")
def test_texts_are_the_same_in_another_version(tmp_path):
    prepared = zoo.datasets.load("spoken_sums").prepare("gpt", max_length=64, hidden_size=32, num_layers=2, num_heads=2)
    model = prepared.build(seed=0)
    for weight in model.weights:
        if len(weight.shape) == 2:
            weight.assign(weight * 6)  # so that texts differ
    path = zoo.export.save(model, tmp_path / "sums", interface=prepared.interface)
    prompts = ["turn", "", "one and two makes", "naïve 中文 😀"] * 4
    rows = np.arange(len(prompts))
    length = [40] * len(prompts)
    sample = {"text": prompts, "seed": (rows * 2**33 + 5).tolist(), "temperature": (0.5 + rows % 3 / 2).tolist()}
    sample |= {"top_k": (rows % 4 * 5).tolist(), "top_p": (1 - rows % 5 / 10).tolist(), "stop": [[""]] * len(prompts)}
    sample |= {"repetition_penalty": (1 + rows % 2 / 5).tolist(), "max_new_tokens": length}
    beam = {"text": prompts, "num_beams": (1 + rows % 5).tolist(), "max_new_tokens": length}
    beam["length_penalty"] = (rows % 3 / 2).tolist()
    requests = {"sample": sample, "greedy": {"text": prompts}, "beam": beam}

    def ask(**variables):
        command = [sys.executable, "-P", "-c", ASK, str(path), json.dumps(requests)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **variables})
        return json.loads(done.stdout.splitlines()[-1])

    (version, texts), (other, again) = ask(), ask(PYTHONPATH=OTHER)
    assert version == tf.__version__ != other
    assert len({*texts["sample"]}) > 12 and texts == again
    verify = [sys.executable, "-P", str(path / "assets.extra" / "verify.py")]
    done = subprocess.run(verify, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": OTHER})
    assert done.returncode == 0 and f"verified (tensorflow {other}" in done.stdout
