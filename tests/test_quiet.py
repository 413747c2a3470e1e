"""TensorFlow's own log lines: dropped where this package needs it, left alone where a program imports it."""

from __future__ import annotations

import logging
import os

import pytest

from zoo import quiet

LINES = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1796015470.808677   19787 cudart_stub.cc:31] Could not find cuda drivers on your machine.\n"
    b"2026-01-31 05:14:27.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.\n"
    b"To enable the following instructions: AVX2 FMA, rebuild TensorFlow with the appropriate compiler flags.\n"
    b"a line of the user\n"
    b"F0000 00:00:1796015470.808677   19787 cpu.cc:3] This CPU lacks AVX.\n"
)


def test_lines_of_others_are_kept_during_the_import(capfd):
    with quiet._without_start_lines(b"IWE"):
        os.write(2, LINES)
    assert capfd.readouterr().err.splitlines() == [line.decode() for line in LINES.splitlines()[-2:]]
    with pytest.raises(ImportError), quiet._without_start_lines(b"IWE"):
        os.write(2, LINES)
        raise ImportError
    assert capfd.readouterr().err == LINES.decode(), "everything, if the import fails"
    failed = "2026-01-31 05:14:27.123456: E cuda_driver.cc:3] CUDA_ERROR_NO_DEVICE\n"
    for levels, kept in ((b"I", failed), (b"IWE", "")):  # with a GPU, an error says why it is not used
        with quiet._without_start_lines(levels):
            os.write(2, failed.encode())
        assert capfd.readouterr().err == kept


def test_only_imports_by_this_package_are_quiet(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    find = "def find(finder, name): return finder.find_spec(name)"
    for module, name, found in (
        ("__main__", "tensorflow", False),
        ("zoo.keras_names", "tensorflow", False),
        ("zoo.datasets.raw", "keras", False),
        ("zoo.datasets.raw", "tensorflow", True),
    ):
        names = {"__name__": module}
        exec(find, names)
        assert (names["find"](quiet._QuietStart(), name) is not None) is found, (module, name)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert names["find"](quiet._QuietStart(), "tensorflow") is None, "the user wants to see all lines"


def test_the_level_of_log_lines_is_not_left_in_the_environment(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with quiet._level("2"):
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"
    assert "TF_CPP_MIN_LOG_LEVEL" not in os.environ
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    with quiet._level("2"):
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "1", "the user's own"


def test_one_message_of_a_logger_is_dropped(caplog):
    logger = logging.getLogger("tensorflow")
    before = logger.level, [*logger.handlers], [*logger.filters]
    with caplog.at_level(logging.INFO, "tensorflow"):
        with quiet.without_message("Assets written to"):
            logger.info("Assets written to: %s", "a")
            logger.info("of the user")
        logger.info("Assets written to: %s", "b")
    assert caplog.messages == ["of the user", "Assets written to: b"]
    assert before == (logger.level, [*logger.handlers], [*logger.filters])


@pytest.mark.slow
def test_a_new_process_writes_nothing_to_standard_error(run_python, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    assert run_python("import zoo; zoo.datasets.load('digits'); zoo.build_mlp_model((4,), 2)").stderr == ""
    alone = run_python("import zoo, tensorflow").stderr
    assert ".cc:" in alone or run_python("import tensorflow").stderr == "", "a program's own import is as it was"
