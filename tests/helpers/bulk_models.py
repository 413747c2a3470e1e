"""Small SavedModels whose answers are known without them, for predictions for files."""

from __future__ import annotations

import json

import tensorflow as tf

from zoo.export import artifact_paths


def saved(folder, function, inputs):
    """Writes a SavedModel with one signature, and what zoo.json says of its inputs."""
    module = tf.Module()
    module.answer = function
    tf.saved_model.save(module, str(folder), signatures=function.get_concrete_function())
    (folder / "assets.extra").mkdir()
    facts = {"signatures": {"serving_default": {"inputs": inputs, "outputs": {}}}, "data": {}}
    (folder / "assets.extra" / "zoo.json").write_text(json.dumps(facts))
    artifact_paths.write_sums(folder)
    return folder


def table_model(folder):
    """`twice` the age, the town twice, and two shares; the graph rejects the town 'nowhere'."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "age"), tf.TensorSpec([None], tf.string, "town")])
    def answer(age, town):
        known = tf.debugging.Assert(~tf.reduce_any(town == "nowhere"), ["row 0: town is no place. Send a town."])
        with tf.control_dependencies([known]):
            shares = tf.stack([age, 1 - age], axis=1) / 4
        return {"twice": 2 * age, "name": tf.strings.join([town, town], "-"), "shares": shares}

    inputs = {
        "age": {"kind": "value", "dtype": "float32", "columns": {"column": "Age"}},
        "town": {"kind": "value", "dtype": "string", "columns": {"column": "Town"}},
    }
    return saved(folder, answer, inputs)


def text_model(folder):
    """The number of letters of a text, and its words, as many as there are."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def answer(text):
        return {
            "letters": tf.strings.length(text, unit="UTF8_CHAR"),
            "words": tf.strings.split(text).to_tensor(""),
        }

    return saved(folder, answer, {"text": {"kind": "text", "dtype": "string"}})


def image_model(folder):
    """The mean of an image."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def answer(image_bytes):
        def mean(content):
            return tf.reduce_mean(tf.cast(tf.io.decode_png(content, 1), tf.float32))

        return {"mean": tf.map_fn(mean, image_bytes, fn_output_signature=tf.float32)}

    return saved(folder, answer, {"image_bytes": {"kind": "file", "dtype": "string"}})


def series_model(folder):
    """The sum of a series of any length."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, 1], tf.float32, "series")])
    def answer(series):
        return {"sum": tf.reduce_sum(series, axis=[1, 2])}

    return saved(folder, answer, {"series": {"kind": "series", "dtype": "float32", "columns": {"series": ["load"]}}})


def prompt_model(folder):
    """A prompt and its end, which may be left out, as in a generation; the data had the prompt as `message`."""
    specs = [tf.TensorSpec([None], tf.string, "prompt"), tf.TensorSpec([None, None], tf.string, "stop")]

    @tf.function(input_signature=specs)
    def answer(prompt, stop):
        return {"text": tf.strings.join([prompt, tf.strings.reduce_join(stop, axis=1)])}

    inputs = {
        "prompt": {"kind": "text", "dtype": "string", "columns": {"column": "message"}},
        "stop": {"kind": "text", "dtype": "string", "default": ["."]},
    }
    return saved(folder, answer, inputs)


def repeated_model(folder):
    """A text several times, by default twice."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text"), tf.TensorSpec([None], tf.int32, "times")])
    def answer(text, times):
        return {
            "text": tf.map_fn(lambda row: tf.strings.reduce_join(tf.repeat(row[0], row[1])), (text, times), tf.string)
        }

    inputs = {
        "text": {"kind": "text", "dtype": "string"},
        "times": {"kind": "number", "dtype": "int32", "default": 2},
    }
    return saved(folder, answer, inputs)


def written(base, *names):
    """Writes the named artifacts, such as "table", below a folder; returns the folder of each by its name."""
    return {name: globals()[f"{name}_model"](base / name / "1") for name in names}
