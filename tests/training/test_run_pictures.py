"""The visual records of a run: the plotted curves, and the TensorBoard event files."""

from __future__ import annotations

import math
import struct
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from selection import slow
from zoo.training import plots
from zoo.training.plots import plot_history
from zoo.training.run_directory import RunDirectory
from zoo.training.tensorboard import TensorBoard

# --- Curves ----------------------------------------------------------------------------------------------------------


def history(epochs, **more):
    return [
        {
            "epoch": e,
            "accuracy": 1 - 1 / e,
            "loss": 2 / e,
            "val_accuracy": 1 - 1.2 / e,
            "val_loss": 2.5 / e,
            **{name: value(e) for name, value in more.items()},
            "learning_rate": 1e-3,
            "seconds": 1.0,
            "examples_per_second": 100.0,
        }
        for e in range(1, epochs + 1)
    ]


def size(path):
    """Reads width and height from the PNG header."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") and content.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", content[16:24])


def panels(rows, exported=None):
    return {axes.get_title(): axes for axes in plots._draw(rows, exported).axes}


def curves(axes):
    return {line.get_label(): list(zip(*map(list, line.get_data()), strict=True)) for line in axes.lines}


def test_training_and_validation_share_a_panel_and_the_loss_comes_first():
    drawn = panels(history(3))
    assert list(drawn) == ["loss", "accuracy", "learning rate"]
    assert curves(drawn["loss"]) == {
        "training": [(1, 2.0), (2, 1.0), (3, 2 / 3)],
        "validation": [(1, 2.5), (2, 1.25), (3, 2.5 / 3)],
    }
    assert [text.get_text() for text in drawn["loss"].get_legend().get_texts()] == ["training", "validation"]
    assert drawn["learning rate"].get_legend() is None, "a single curve needs no name"
    assert drawn["loss"].get_xlabel() == "epoch"


@pytest.mark.parametrize(
    ("count", "expected"), [(0, (1260, 320)), (1, (1680, 320)), (2, (1680, 640)), slow(6, (1680, 960))]
)
def test_panels_wrap_after_four(tmp_path, count, expected):
    plot_history(history(4, **{f"figure_{i}": float for i in range(count)}), tmp_path / "history.png")
    assert size(tmp_path / "history.png") == expected
    assert [p.name for p in tmp_path.iterdir()] == ["history.png"]


@pytest.mark.parametrize("epochs", [1, 2, 40, 41, 500])
def test_epoch_ticks_are_integers_and_all_values_are_visible(epochs):
    for axes in panels(history(epochs)).values():
        assert all(tick == int(tick) for tick in axes.get_xticks())
        assert {line.get_marker() for line in axes.lines} == {"o" if epochs <= 40 else ""}
        low, high = axes.get_xlim()
        assert low < 1 and high > epochs
        for line in axes.lines:
            values = line.get_ydata()
            assert axes.get_ylim()[0] <= min(values) and max(values) <= axes.get_ylim()[1]


def test_axis_is_logarithmic_for_values_that_span_decades():
    rates = {e: 1e-3 * 0.5**e for e in range(1, 11)}  # 2.7 decades
    drawn = panels([{**row, "learning_rate": rates[row["epoch"]]} for row in history(10, perplexity=lambda e: 10.0**e)])
    assert {title: axes.get_yscale() for title, axes in drawn.items()} == {
        "loss": "linear",
        "accuracy": "linear",
        "perplexity": "log",
        "learning rate": "log",
    }
    to_zero = [{**row, "learning_rate": 1e-3 * (10 - row["epoch"]) / 9} for row in history(10)]
    assert panels(to_zero)["learning rate"].get_yscale() == "linear", "a logarithmic axis has no zero"


def test_exported_epoch_is_marked_and_labelled_once():
    drawn = panels(history(5), 4)
    labels = {
        title: [line.get_label() for line in axes.lines if list(line.get_xdata()) == [4, 4]]
        for title, axes in drawn.items()
    }
    assert labels["loss"] == ["exported, epoch 4"] and all(len(found) == 1 for found in labels.values())
    assert "exported, epoch 4" not in labels["accuracy"]


def test_missing_and_nonfinite_values_are_skipped(tmp_path):
    rows = [
        {"epoch": 1, "loss": 1.0},
        {"epoch": 2, "loss": math.nan, "val_loss": 3.0},
        {"epoch": 3, "loss": 0.5, "val_loss": math.inf},
    ]
    assert curves(panels(rows)["loss"]) == {"training": [(1, 1.0), (3, 0.5)], "validation": [(2, 3.0)]}
    plot_history([{"epoch": 1, "loss": math.nan}], tmp_path / "history.png")
    assert size(tmp_path / "history.png") == (420, 320)


@pytest.mark.parametrize("rows", [[], [{"epoch": 1, "seconds": 3.0}]])
def test_an_empty_history_is_rejected(rows, tmp_path):
    with pytest.raises(ValueError, match=rf"A history of {len(rows)} rows holds nothing to draw"):
        plot_history(rows, tmp_path / "history.png")
    assert not list(tmp_path.iterdir())


def test_an_error_keeps_the_previous_picture(tmp_path, monkeypatch):
    picture = tmp_path / "history.png"
    plot_history(history(2), picture)
    before = picture.read_bytes()

    class Broken(float):
        def __float__(self):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        plot_history([*history(2), {"epoch": 3, "loss": Broken(1)}], picture)
    assert picture.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["history.png"]


@pytest.mark.slow
def test_plotting_after_every_epoch_is_fast(tmp_path):
    """Four panels of 500 epochs take about 0.2 s of CPU time; automatic layout and legends would take 0.5 s."""
    rows = history(500, top_5_accuracy=lambda e: 1 - 1 / (e + 1))
    plot_history(rows, tmp_path / "history.png")  # the first call loads fonts
    times = []
    for _ in range(4):
        started = time.process_time()
        plot_history(rows, tmp_path / "history.png")
        times.append(time.process_time() - started)
    assert min(times) < 0.4


# --- TensorBoard -----------------------------------------------------------------------------------------------------


def events(folder):
    """Returns all events as TensorFlow's reader returns them, in no order of files."""
    return [e for file in folder.iterdir() for e in tf.compat.v1.train.summary_iterator(str(file))]


def scalars(folder):
    """Returns a dict that maps (tag, epoch) to all its values."""
    found = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                found.setdefault((value.tag, event.step), []).append(float(tf.make_ndarray(value.tensor)))
    return found


def rows(*epochs, shift=0.0):
    return [{"epoch": e, "loss": e + shift, "val_loss": -e + shift, "learning_rate": 0.5} for e in epochs]


def test_scalars_of_training_and_validation_are_stored_separately(tmp_path):
    board = TensorBoard(tmp_path)
    for epoch in (1, 2):
        board.write_scalars(rows(epoch))
    assert scalars(tmp_path / "train") == {
        **{("loss", e): [e] for e in (1, 2)},
        **{("learning_rate", e): [0.5] for e in (1, 2)},
    }, "what was written is there before the files are closed: a run may be killed"
    board.close()
    assert scalars(tmp_path / "validation") == {("loss", e): [-e] for e in (1, 2)}
    assert len(list((tmp_path / "train").iterdir())) == 1, "one file, not one an epoch"


def test_a_resumed_run_writes_each_epoch_once(tmp_path):
    """The run was killed in epoch 4 and lost its checkpoint: epochs 3 and 4 are trained again, with other metrics."""
    first = TensorBoard(tmp_path)
    for epoch in (1, 2, 3, 4):
        first.write_scalars(rows(epoch))
        first.write_histograms(model(), epoch)
    first.close()
    second = TensorBoard(tmp_path)
    second.write_scalars(rows(3, shift=0.25))
    assert {key: v for key, v in scalars(tmp_path / "train").items() if key[0] == "loss"} == {
        ("loss", 1): [1],
        ("loss", 2): [2],
        ("loss", 3): [3.25],
    }
    second.write_scalars(rows(4, shift=0.25))
    second.write_scalars(rows(4, shift=0.75))  # again in the same process
    second.close()
    assert scalars(tmp_path / "train")["loss", 4] == [4.25]
    assert scalars(tmp_path / "validation")["loss", 3] == [-2.75]
    assert {e.step for e in events(tmp_path / "train") for v in e.summary.value if "kernel" in v.tag} == {1, 2}
    accumulator = EventAccumulator(str(tmp_path / "train")).Reload()  # TensorBoard's own reader
    assert [e.step for e in accumulator.Tensors("loss")] == [1, 2, 3, 4]


def test_a_resumed_run_writes_missing_epochs(tmp_path):
    """The checkpoint's history contains an epoch that is missing in the files; the last file is truncated."""
    first = TensorBoard(tmp_path)
    first.write_scalars(rows(1, 2))
    first.close()
    for file in tmp_path.glob("*/*"):
        file.write_bytes(file.read_bytes()[:-5])
    second = TensorBoard(tmp_path)
    second.write_scalars(rows(1, 2, 3))
    second.close()
    for folder in ("train", "validation"):
        accumulator = EventAccumulator(str(tmp_path / folder)).Reload()
        assert [e.step for e in accumulator.Tensors("loss")] == [1, 2, 3]


def model():
    inputs = keras.Input((2,), name="inputs")
    hidden = keras.layers.Dense(3, name="hidden", kernel_initializer="ones")(inputs)
    outputs = keras.layers.BatchNormalization(name="norm")(hidden)
    return keras.Model(inputs, keras.layers.Dropout(0.5, name="dropout", seed=1)(outputs))


def test_histograms_are_written_for_every_weight_path(tmp_path):
    network = model()
    network.layers[1].set_weights([np.array([[1, 2, 3], [4, 5, 6]], np.float32), np.zeros(3, np.float32)])
    board = TensorBoard(tmp_path)
    board.write_histograms(network, 7)
    board.close()
    found = {v.tag: (e.step, tf.make_ndarray(v.tensor)) for e in events(tmp_path / "train") for v in e.summary.value}
    assert set(found) == {
        "hidden/kernel",
        "hidden/bias",
        *(f"norm/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")),
    }
    step, buckets = found["hidden/kernel"]  # rows of (left edge, right edge, count)
    assert step == 7 and buckets[:, 2].sum() == 6 and (buckets[0, 0], buckets[-1, 1]) == (1, 6)


def test_graph_is_written_once(tmp_path):
    network = model()
    traced = tf.function(network).get_concrete_function(tf.TensorSpec((None, 2), tf.float32))
    for _ in range(2):  # a new run, then the resumed run
        board = TensorBoard(tmp_path)
        board.write_graph(traced)
        board.write_graph(traced.graph)
        board.write_scalars(rows(1))
        board.close()
    graphs = [e.graph_def for e in events(tmp_path / "train") if e.HasField("graph_def")]
    assert len(graphs) == 1
    nodes = {node.op for node in tf.compat.v1.GraphDef.FromString(graphs[0]).node}
    assert "MatMul" in nodes and "Placeholder" in nodes
    assert EventAccumulator(str(tmp_path / "train")).Reload().Tags()["graph"] is True
    assert scalars(tmp_path / "train")["loss", 1] == [1]


def test_unwritable_files_raise_os_error(tmp_path):
    (tmp_path / "train").write_text("a file in the way")
    with pytest.raises(OSError, match=rf"^{tmp_path}: Not a directory$"):
        TensorBoard(tmp_path).write_scalars(rows(1))


def test_run_directory_writes_scalars_histograms_and_graph(tmp_path):
    directory = RunDirectory(tmp_path / "run", {"model": {}, "data": {}, "config": {}})
    network = model()
    directory.write_graph(tf.function(network).get_concrete_function(tf.TensorSpec((None, 2), tf.float32)))
    directory.write_scalars(rows(1))
    directory.write_histograms(network, 1)
    directory.close()
    kinds = {
        v.metadata.plugin_data.plugin_name for e in events(tmp_path / "run/tensorboard/train") for v in e.summary.value
    }
    assert kinds == {"scalars", "histograms"}
    assert any(e.HasField("graph_def") for e in events(tmp_path / "run/tensorboard/train"))
