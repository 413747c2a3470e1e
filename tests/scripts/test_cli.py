"""The command line: real processes, exit statuses, and all messages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import processes
from zoo.config import TrainConfig, read_yaml
from zoo.registry import get_spec, list_models
from zoo.scripts import cli, reproduce, train

ZOO = [sys.executable, "-m", "zoo.scripts.cli"]
FAST = ["--model.filters", "[4, 6]", "--model.dense_units", "8", "--model.input_shape", "[12, 12, 1]"]
TRAIN = ["train", "--model", "cnn", "--data", "digits", *FAST, "--config.epochs", "2"]

WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
sys.modules["keras"] = None
from zoo.scripts import cli
sys.exit(cli.main(sys.argv[1:]))
"""

ALL_WITHOUT_TENSORFLOW = """
import contextlib, io, json, sys
sys.modules["tensorflow"] = None
sys.modules["keras"] = None
from zoo.scripts import cli
shown = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            status = cli.main(words)
        except SystemExit as exit:
            status = exit.code
    assert not status, words
    shown.append(out.getvalue())
print(json.dumps(shown))
"""


def run_zoo(*words, cwd=None, check=True, timeout=None, start=processes.run, **variables):
    words = [*ZOO, *map(str, words)]
    environment = {**os.environ, **variables}
    done = start(words, capture_output=True, text=True, cwd=cwd, env=environment, check=False, timeout=timeout)
    assert not check or done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was finished by the command line, in a new interpreter."""
    directory = tmp_path_factory.mktemp("run") / "digits"
    done = run_zoo(*TRAIN, "--run_directory", directory, start=subprocess.run)
    return directory, done


SHOWN = [
    (["--help"], ["train", "predict", "zoo COMMAND --help"]),
    (["--version"], ["savedmodel-zoo 0."]),
    (["list"], [*list_models(), "digits (embedded)"]),
    (["list", "c*", "--task", "image_classification"], ["cnn"]),
    (["train", "--help"], ["--config.epochs", "--data.manual_dir", "--no-export", "--golden", "cnn_digits"]),
    (["train", "--model", "cnn", "--help"], ["--model.filters", "Filters of each convolution", "--config.seed"]),
    (["verify", "--help"], ["path", "openvino", "onnxruntime", "litert", "c_api"]),
    (["convert", "--help"], ["--to", "--sequence-length"]),
    (["describe", "--help"], ["--json"]),
    (["predict", "--help"], ["inputs"]),
    (["evaluate", "--help"], ["--split"]),
    (["export", "--help"], ["PATH/1"]),
]
MODELS = list_models(variants=False)


def command_of(recipe: str) -> str:
    """Returns the command in the first line of a recipe."""
    text = (train.RECIPES / f"{recipe}.yaml").read_text()
    found = re.match(rf"# zoo (train|cross-validate) --config {recipe}\b", text)
    assert found, "its head says the command"
    return found[1]


@pytest.fixture(scope="module")
def shown(run_python):
    """Returns what commands print that need no TensorFlow. They run in one process, which cannot import it."""
    commands = [words for words, _ in SHOWN] + [["train", "--model", model, "--help"] for model in MODELS]
    commands += [[command_of(name), "--config", name, "--help"] for name in train.recipes()]
    printed = json.loads(run_python(ALL_WITHOUT_TENSORFLOW, json.dumps(commands)).stdout)
    return {tuple(words): text for words, text in zip(commands, printed, strict=True)}


@pytest.mark.parametrize(("words", "expected"), SHOWN)
def test_help_and_listing_do_not_import_tensorflow(shown, words, expected):
    for text in expected:
        assert text in shown[tuple(words)]


def test_options_with_list_defaults_show_and_accept_lists(run_python):
    shown = run_python(WITHOUT_TENSORFLOW, "train", "--help").stdout
    assert "<factory>" not in shown
    assert "--config.augmentation" in shown and "default: []" in shown


@pytest.mark.parametrize("model", MODELS)
def test_every_builder_argument_is_an_option(shown, model):
    spec = get_spec(model)
    for name in spec.parameters:
        # Followed by its value, or from Python 3.13 on by the option's other spelling.
        listed = re.search(rf"--model\.{name}(?![\w.-])", shown["train", "--model", model, "--help"]) is not None
        assert listed == (name not in spec.data_arguments), name


BAD = {
    "no command": ([], r"^usage: zoo COMMAND"),
    "unknown command": (["trian"], r"Unknown command 'trian'. Did you mean 'train'"),
    "unknown model": (["train", "--model", "cn", "--data", "digits"], r"Unknown model 'cn'. Did you mean 'cnn'"),
    "option of no model": (
        ["train", "--data", "digits", "--model.dropout", "0.1"],
        r"--model\.dropout is an option of a model, and none was named\. Pass --model with one of .*cnn",
    ),
    "no data": (["train", "--model", "cnn"], r"No data set was given. Pass --data with one of .*clinc_oos"),
    "model without name": (["train", "--model"], r"--model has no value"),
    "unknown option": (
        [*TRAIN, "--model.filtres", "3"],
        r"Unknown option --model\.filtres. Did you mean '--model\.filters'",
    ),
    "option of another model": (
        ["train", "--model", "mlp", "--data", "digits", "--model.filters", "[3]"],
        r"Unknown option --model\.filters",
    ),
    "wrong type": (
        [*TRAIN, "--config.epochs", "many"],
        r"--config\.epochs is many. Pass a whole number, such as 10",
    ),
    "wrong list": ([*TRAIN, "--model.filters", "[3, x]"], r"--model\.filters is x. Pass a list of whole numbers"),
    "wrong choice": (
        [*TRAIN, "--config.schedule", "cosin"],
        r"--config\.schedule is cosin. Pass constant or linear",
    ),
    "out of range": ([*TRAIN, "--config.epochs", "0"], r"epochs is 0; expected a whole number of at least 1"),
    "contradiction": ([*TRAIN, "--config.replicas", "2"], r"replicas=2 requires strategy='mirrored'"),
    "unknown task": (
        ["list", "--task", "image_clasification"],
        r"No model serves .* Did you mean 'image_classification'",
    ),
    "no such config": (["train", "--config", "cnn_digit"], r"neither a file nor a recipe. Did you mean 'cnn_digits'"),
    "evaluate no run": (
        ["evaluate", "/"],
        r"/ holds no SavedModel. Pass a folder with saved_model.pb, one with versions",
    ),
    "verify nothing": (["verify", "/nowhere"], r"/nowhere does not exist. Pass a folder with saved_model.pb"),
    "verify without path": (["verify"], r"required: path `zoo verify --help`"),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_arguments_print_one_line_and_exit_with_status_2(case, tmp_path, capsys, monkeypatch):
    words, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    said = captured.err if words else captured.out
    assert re.search(message, said)
    assert "Traceback" not in said and (not words or said.count("\n") == 1)
    assert list(tmp_path.iterdir()) == [], "something was half-written"


LATE = {
    "unknown data set": (["--data", "digit"], r"Unknown data set 'digit'. Did you mean 'digits'"),
    "four pooling stages": (
        ["--data", "digits", "--model.filters", "[4, 4, 4, 4, 4]"],
        r"28x28 is too small for filters=\[4, 4, 4, 4, 4\].*4 pooling stages.*at least 78x78. Pass .*at most 3 filters",
    ),
    "missing originals": (
        ["--data", "mnist", "--data.manual_dir", "."],
        r"lacks original files of 'mnist'.*train-images-idx3-ubyte.gz \(from http.*Put them there",
    ),
    "no folder": (["--data", "mnist", "--data.manual_dir", "nowhere"], r"manual_dir nowhere is not a folder"),
    "unknown optimizer": (["--data", "digits", "--config.optimizer", "adaam"], r"Did you mean 'adam'"),
    "no run": (["--data", "digits", "--run_directory", "letters"], r"letters exists and is not a run"),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] * (case not in ("unknown data set", "no run"))) for case in LATE],
)
def test_late_errors_print_one_line_and_exit_with_status_2(case, tmp_path):
    words, message = LATE[case]
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    before = sorted(tmp_path.rglob("*"))
    # The time limit allows for retries of an unreachable host, which would take more than three minutes.
    words = ["train", "--model", "cnn", *words]
    done = run_zoo(*words, cwd=tmp_path, check=False, timeout=120, TFDS_DATA_DIR=str(tmp_path.parent / "tfds"))
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert done.stderr.count("\n") == 1, done.stderr
    assert sorted(tmp_path.rglob("*")) == before, "something was half-written"


def test_one_command_leads_from_data_to_a_verified_savedmodel(run):
    directory, done = run
    assert f"SavedModel: {directory}/saved_model/1" in done.stdout
    assert "verified (tensorflow" in done.stdout and "accuracy" in done.stdout
    assert done.stderr == ""
    report = json.loads((directory / "evaluation.json").read_text())
    assert report["num_examples"] == 360 and report["split"] == "test"
    for name in ("history.png", "confusion_matrix.png", "reliability.png"):
        assert (directory / "plots" / name).read_bytes().startswith(b"\x89PNG")
    assert "## Signatures" in (directory / "README.md").read_text()
    settings = read_yaml(directory / "config.yaml")
    assert settings["model"]["filters"] == [4, 6] and TrainConfig.from_dict(settings["config"]).epochs == 2


@pytest.mark.slow
def test_repeating_a_command_trains_and_exports_nothing(run):
    directory, _ = run
    done = run_zoo(*TRAIN, "--run_directory", directory)
    assert "training is done, after 2 epochs" in done.stdout and "Epoch" not in done.stdout
    assert [p.name for p in (directory / "saved_model").iterdir()] == ["1"]


@pytest.mark.slow
def test_a_run_can_be_repeated_from_its_config(run, tmp_path):
    directory, _ = run
    run_zoo("train", "--config", directory / "config.yaml", "--run_directory", tmp_path / "again", "--no-export")
    assert read_yaml(tmp_path / "again" / "config.yaml") == read_yaml(directory / "config.yaml")
    assert not (tmp_path / "again" / "saved_model").exists()

    def losses(path):
        return [line.split(",")[1] for line in (path / "history.csv").read_text().splitlines()[1:]]

    assert [float(x) for x in losses(tmp_path / "again")] == pytest.approx(
        [float(x) for x in losses(directory)], abs=1e-4
    )


@pytest.mark.slow
def test_options_override_a_config(run, tmp_path):
    directory, _ = run
    words = ["--config", directory / "config.yaml", "--config.epochs", "1", "--model.dense_units", "null"]
    run_zoo("train", *words, "--run_directory", tmp_path / "other", "--no-export", "--quiet")
    settings = read_yaml(tmp_path / "other" / "config.yaml")
    assert settings["config"]["epochs"] == 1 and settings["model"]["dense_units"] is None
    assert settings["model"]["filters"] == [4, 6]


def test_a_config_with_an_unknown_key_is_rejected(run, tmp_path, capsys):
    text = (run[0] / "config.yaml").read_text()
    for old, new, message in [
        ("epochs:", "epoch:", r"config\.epoch is unknown. Did you mean 'epochs'"),
        ("filters:", "filter:", r"model\.filter is unknown. Did you mean 'filters'"),
        ("config:", "confg:", r"has a section 'confg'. Did you mean 'config'"),
    ]:
        (tmp_path / "config.yaml").write_text(text.replace(old, new))
        assert cli.main(["train", "--config", str(tmp_path / "config.yaml")]) == 2
        assert re.search(message, capsys.readouterr().err)


@pytest.fixture(scope="module")
def image(run, tmp_path_factory):
    """A test image as a file, and its label."""
    from zoo.datasets.interface import Interface

    examples = Interface.load(run[0] / "interface").examples
    file = tmp_path_factory.mktemp("image") / "digit.png"
    file.write_bytes(examples.requests["image_bytes"][0])
    return file


def test_predict_needs_only_the_savedmodel(run, image, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    os.rename(run[0] / "saved_model" / "1", moved / "1")
    try:
        line = run_zoo("predict", moved, image, "--top", "3").stdout
        assert re.fullmatch(rf"{re.escape(str(image))}: \d [01]\.\d{{4}}, \d 0\.\d{{4}}, \d 0\.\d{{4}}\n", line)
        answer = json.loads(run_zoo("predict", moved / "1", image, "--json").stdout)
        assert len(answer["probabilities"]) == 10
        assert int(answer["class_name"]) == max(range(10), key=answer["probabilities"].__getitem__)
    finally:
        os.rename(moved / "1", run[0] / "saved_model" / "1")


@pytest.mark.slow
def test_messages_name_files_that_are_not_images(run, image, tmp_path):
    text = tmp_path / "letter.txt"
    text.write_text("dear")
    done = run_zoo("predict", run[0], image, text, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(
        r"zoo: Cannot predict for \S*letter.txt: .*this is not a PNG, JPEG, BMP or GIF file.*Pass another file\.\n",
        done.stderr,
    )
    done = run_zoo("predict", run[0], tmp_path / "none.png", check=False)
    assert done.returncode == 2 and "none.png: No such file" in done.stderr


@pytest.mark.slow
def test_export_evaluate_and_verify_work_on_a_run(run, tmp_path):
    directory, _ = run
    done = run_zoo("export", directory, tmp_path / "exports")
    assert f"SavedModel: {tmp_path}/exports/1" in done.stdout
    assert "verified" in run_zoo("verify", tmp_path / "exports", "--runtimes", "none").stdout
    before = (directory / "evaluation.json").read_text()
    assert "measured on        144 examples" in run_zoo("evaluate", directory, "--split", "validation").stdout
    assert (directory / "evaluation.json").read_text() == before
    assert json.loads((directory / "evaluation-validation.json").read_text())["split"] == "validation"
    variables = tmp_path / "exports" / "1" / "variables" / "variables.data-00000-of-00001"
    content = bytearray(variables.read_bytes())
    content[len(content) // 2] ^= 1
    variables.write_bytes(content)
    done = run_zoo("verify", tmp_path / "exports", "--runtimes", "none", check=False)
    assert done.returncode == 1
    assert "variables/variables.data-00000-of-00001 was changed" in done.stdout and "NOT VERIFIED" in done.stdout


@pytest.mark.slow
def test_scripts_run_the_same_commands(run):
    scripts = Path(train.__file__).parent
    for script, words in (("list_models.py", ["c*"]), ("verify.py", [run[0], "--runtimes", "none"])):
        command = [sys.executable, scripts / script, *words]
        done = processes.run(command, capture_output=True, text=True, cwd=run[0], check=False)
        assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout


@pytest.mark.parametrize("name", train.recipes())
def test_every_recipe_is_valid(name, shown):
    text = (train.RECIPES / f"{name}.yaml").read_text()
    assert re.search(r"# Expected: .*\d", text) and re.search("# Time: .*minute", text)
    assert "--config.epochs" in shown[command_of(name), "--config", name, "--help"]
    sections = train.read_sections(name)
    TrainConfig.from_dict(sections["config"])
    for words in reproduce.recipe_commands(name):
        model = words[words.index("--model") + 1] if "--model" in words else sections["model"].get("name")
        assert model is None or get_spec(model)  # without a name, the default model of the task is trained
