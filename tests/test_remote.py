"""Remote paths, on fsspec's store in memory: data, versions, runs, and faults in the middle of a copy."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest

import zoo
from zoo import lineage, remote
from zoo.errors import UsageError
from zoo.remote import runs, store
from zoo.remote.store import Store
from zoo.scripts import cli


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A new folder of the store in memory, and an empty cache."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "_ATTEMPTS", (0.0,))
    return f"memory://box-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def faults(monkeypatch):
    """Names of files whose upload stops after half of the bytes."""
    names, system = set(), fsspec.filesystem("memory")
    put = type(system).put_file

    def put_file(self, source, target, **options):
        if os.path.basename(target) in names:
            content = Path(source).read_bytes()
            self.pipe_file(target, content[: len(content) // 2])
            raise ConnectionResetError(f"the connection to https://ann:secret@host{target}?X-Amz-Signature=1f was lost")
        return put(self, source, target, **options)

    monkeypatch.setattr(type(system), "put_file", put_file)
    return names


def put(url, **files):
    for name, content in files.items():
        fsspec.filesystem("memory").pipe_file(f"{url}/{name}".replace("memory:/", ""), content)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("csv:https://ann:secret@host.org/a.csv", "csv:https://host.org/a.csv"),
        ("https://host.org/a.csv?X-Amz-Signature=1f&b=2", "https://host.org/a.csv"),
        ("https://token@host.org/a.csv", "https://host.org/a.csv"),
        ("no s3://key:secret@bucket/run here", "no s3://bucket/run here"),
        ("s3://bucket/part-?.csv", "s3://bucket/part-?.csv"),
        ("gs://bucket/a?generation=17", "gs://bucket/a"),
        ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
    ],
)
def test_secrets_in_urls_are_masked(text, shown):
    assert remote.masked(text) == shown


def test_data_of_a_store_equals_local_data(place, tmp_path, capsys):
    rows = [f"{i % 7},{(i * i) % 5},{'ab'[i % 2]}" for i in range(60)]
    files = {f"part-{i}.csv": "\n".join(["x,y,label", *rows[i * 30 : i * 30 + 30]]).encode() for i in range(2)}
    put(place, **files)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name, options in (("part-0.csv", {"test": "part-1.csv"}), ("part-*.csv", {})):
        local = zoo.datasets.load(f"csv:{tmp_path}/{name}", **options)
        loaded = zoo.datasets.load(f"csv:{place}/{name}", **options)
        assert loaded.name == f"csv:{place}/{name}" and "manual_dir" not in loaded.arguments
        for split in local.splits:
            for column in ("x", "label"):
                ours, theirs = (data.splits[split].column(column) for data in (loaded, local))
                np.testing.assert_array_equal(*([*each.as_numpy_iterator()] for each in (ours, theirs)))
    put(place, **{"part-0.csv": files["part-1.csv"]})
    changed = zoo.datasets.load(f"csv:{place}/part-0.csv")
    assert changed.splits["train"].num_examples < 30, "a file that has changed is fetched again"


def test_folders_of_a_store_are_data(place):
    import tensorflow as tf
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i in range(40):
        image = tf.io.encode_png((digits.images[i] * 15).astype("uint8")[..., None]).numpy()
        put(place, **{f"{'even' if digits.target[i] % 2 == 0 else 'odd'}/{i}.png": image})
    data = zoo.datasets.load(f"images:{place}")
    assert data.class_names == ("even", "odd") and sum(part.num_examples for part in data.splits.values()) == 40


def test_what_is_not_there_is_named(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"nothing.csv does not exist, or is empty. Correct the path."):
        zoo.datasets.load(f"csv:{place}/nothing.csv")
    with pytest.raises(UsageError, match=r"No file matches .*/x\*.csv. Correct the name."):
        zoo.datasets.load(f"csv:{place}/x*.csv")
    with pytest.raises(UsageError, match=r"holds no complete SavedModel. Pass a folder"):
        zoo.export.load(place)
    with pytest.raises(UsageError, match=r"can only be read. Pass a run_directory of an object store"):
        zoo.run("mlp", "digits", run_directory="https://ann:secret@example.com/run")
    with pytest.raises(UsageError, match=r"can only be read. Pass a folder of an object store"):
        zoo.export.save(None, "https://example.com/run", examples=[1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_missing_package_is_named(scheme, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, {"gs": "gcsfs", "az": "adlfs"}[scheme], None)
    monkeypatch.chdir(tmp_path)
    assert (
        cli.main(["train", "--model", "mlp", "--data", "digits", "--run_directory", f"{scheme}://k:secret@box/x"]) == 2
    )
    shown = capsys.readouterr().err
    assert f"zoo: {scheme}:// needs a package that is not installed" in shown
    assert "pip install 'savedmodel-zoo[remote]'" in shown and "secret" not in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["train", "--data", "digits", "--start-from=gs://bucket/x"], "--start-from"),
        (["tune", "--data", "digits", "--run-directory", "gs://bucket/x"], "--run-directory"),
        (["predict", "runs/a", "s3://bucket/x.csv"], "The path"),
        (["compare", "runs/a", "s3://bucket/x"], "The path"),
        (["predict", "runs/a", "rows.csv", "--output", "s3://bucket/x.csv"], "--output"),
        (["fetch", "--data", "s3://bucket/x"], "--data"),
    ],
)
def test_options_that_are_local_only_say_so(words, option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith(f"zoo: {option} is a path of ")
    assert not list(tmp_path.iterdir())


def version(folder, content=b"graph"):
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(content)
    (folder / "variables" / "variables.index").write_bytes(b"weights" * 10)
    return folder


def test_versions_are_complete_or_not_there(place, tmp_path, faults):
    made = version(tmp_path / "made")
    assert remote.published_version(made, f"{place}/m") == f"{place}/m/1"
    assert remote.fetched_model(f"{place}/m").joinpath("saved_model.pb").read_bytes() == b"graph"
    faults.add("variables.index")
    with pytest.raises(
        UsageError, match=r"Cannot write .*/m: .* was lost. Start the same .* Nothing was published; the next try"
    ) as error:
        remote.published_version(made, f"{place}/m")
    assert "secret" not in str(error.value) and "Signature" not in str(error.value) and error.value.__cause__ is None
    assert sorted(Store(f"{place}/m").files()) == ["1/saved_model.pb", "1/variables/variables.index"]
    faults.clear()
    Store(f"{place}/m").write("2/.writing", b"another export, which was killed")
    assert remote.published_version(made, f"{place}/m") == f"{place}/m/3"
    with pytest.raises(
        UsageError, match=r"contains 1, 3, which are not|contains m, which are not versions of a SavedModel"
    ):
        remote.check_versions(place)


def write(folder, **files):
    for name, content in files.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def test_another_machine_gets_the_newest_complete_checkpoint(place, tmp_path, monkeypatch, faults, capsys):
    with remote.working_copy(f"{place}/run") as path:
        write(path, **{"config.yaml": "# All settings", "checkpoints__step-000000001__state.json": "{}"})
        write(
            path,
            **{"checkpoints__step-000000001__variables.index": "one", ".lock": "1", "plots__.a-0123456789ab.png": ""},
        )
        remote.publish(path)
        write(
            path,
            **{"checkpoints__step-000000002__state.json": "{}", "checkpoints__step-000000002__variables.index": "2"},
        )
        faults.add("variables.index")
        remote.publish(path)
        assert "was lost. Start" in (shown := capsys.readouterr().out) and "Training goes on" in shown
        assert "secret" not in shown
        with pytest.raises(UsageError, match="ends with an earlier checkpoint"):
            remote.publish(path, final=True)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "other machine"))
    with remote.working_copy(f"{place}/run") as path:
        steps = [folder.name for folder in (path / "checkpoints").iterdir()]
        assert steps == ["step-000000001"] and (path / "config.yaml").read_text() == "# All settings"
        faults.clear()
        write(path, **{"checkpoints__step-000000003__state.json": "{}"})
        shutil.rmtree(path / "checkpoints" / "step-000000001")
        remote.publish(path, final=True)
    left = {name for name in Store(f"{place}/run").files() if "step-000000001" in name or name.startswith(".")}
    assert not left, "what the run deletes is deleted, and no lease is left"


def test_folders_that_are_no_run_are_not_touched(place):
    put(f"{place}/data", **{"people.csv": b"a,b"})
    with (
        pytest.raises(
            UsageError, match=r"is not a run: it holds people.csv, but no config.yaml of a run. Pass another"
        ),
        remote.working_copy(f"{place}/data"),
    ):
        pass
    assert list(Store(f"{place}/data").files()) == ["people.csv"]


def test_two_trainers_in_one_remote_run(place, monkeypatch):
    monkeypatch.setattr(runs.lease, "BEAT", 0.1)
    with remote.working_copy(f"{place}/run") as path:
        with (
            pytest.raises(
                UsageError, match=r"is in use by another trainer \(process [0-9]+ on .*which gave a sign of life"
            ),
            remote.working_copy(f"{place}/run"),
        ):
            pass
        Store(f"{place}/run").write(".lease", b'{"host": "other", "pid": 7}')
        with pytest.raises(UsageError, match="was taken over by process 7 on other"):
            remote.publish(path, final=True)


def test_a_run_is_kept_in_a_store(place, tmp_path, monkeypatch):
    config = {"epochs": 2, "batch_size": 256, "deterministic": True}
    options = {"model_arguments": {"hidden_units": (8,)}, "export": False, "baselines": "none", "verbose": 0}
    whole = zoo.run("mlp", "digits", config={**config, "epochs": 3}, run_directory=tmp_path / "whole", **options)
    zoo.run("mlp", "digits", config=config, run_directory=f"{place}/run", **options)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "another machine"))
    result = zoo.run("mlp", "digits", config={**config, "epochs": 3}, run_directory=f"{place}/run", **options)
    losses = [[row["loss"] for row in history] for history in (result.history, whole.history)]
    assert losses[0] == losses[1] and len(losses[0]) == 3
    kept = Store(f"{place}/run").files()
    assert {"config.yaml", "history.csv", "model.keras", "evaluation.json", "lineage.json"} <= {*kept}
    model, *_ = zoo.open_run(f"{place}/run")
    np.testing.assert_array_equal(model.get_weights()[0], result.model.get_weights()[0])


def test_no_secret_is_recorded(place, monkeypatch):
    words = ["zoo", "train", "--data", "csv:https://ann:secret@host.org/a.csv?X-Amz-Signature=1f"]
    with lineage.typed(words):
        assert "secret" not in lineage.command() and "Signature" not in lineage.command()
