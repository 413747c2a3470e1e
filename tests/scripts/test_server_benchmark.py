"""`zoo benchmark server`: servers answer alike before they are measured, and targets are compared. Timings are not tested."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest

from served_models import write_artifact
from zoo.errors import UsageError
from zoo.scripts import cli
from zoo.scripts.benchmarks import server

ZOO = server.CONTENDERS["zoo"]
ROWS = [
    server.Row("slow", server.IN_PROCESS, 1, 100.0, 10.0, 12.0, 0),
    server.Row("slow", ZOO, 1, 90.0, 10.75, 13.0, 0, 700.0, 4.25),
    server.Row("slow", ZOO, 8, 120.0, 66.0, 80.0, 0, 700.0, 4.25),
    server.Row("quick", server.IN_PROCESS, 1, 5000.0, 0.2, 0.25, 0),
    server.Row("quick", ZOO, 1, 2000.0, 0.5, 1.0, 0, 600.0, 5.5),
    server.Row("quick", ZOO, 8, 2500.0, 3.0, 4.0, 1, 600.0, 5.5),
]


def test_targets_are_compared_where_they_apply():
    assert server.targets(ROWS) == [
        "slow: ready after 4.2 s (reached: at most 5 s)",
        "slow, 1 client: p50 0.75 ms above 10.00 ms in process (MISSED: at most 0.6 ms)",
        "slow, 8 clients: 120% of the 100 calls per second in process, 10.00 ms each (reached: at least 90%)",
        "quick: ready after 5.5 s (MISSED: at most 5 s)",
        "quick, 1 client: p50 0.30 ms above 0.20 ms in process (reached: at most 0.6 ms)",
        "quick, 8 clients: 50% of the 5,000 calls per second in process, 0.20 ms each (no target for such a fast call)",
    ]


def test_the_csv_file_gives_the_same_table(tmp_path):
    file = tmp_path / "server.csv"
    server.write(ROWS, file)
    found = server.read(file)
    assert server.table(found) == server.table(ROWS)
    assert found[1] == ROWS[1] and math.isnan(found[0].megabytes)
    assert "| `slow` | in process |  | 100 | 10.00 | 12.00 |  |  |  |" in server.table(ROWS)
    assert f"| `quick` | {ZOO} | 8 | 2,500 | 3.00 | 4.00 | 1 | 600 | 5.5 |" in server.table(ROWS)
    file.write_text("server\n")
    with pytest.raises(UsageError, match=r"has other columns than model, .*\. Pass another --output"):
        server.read(file)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--contenders", "fastpi"], "Unknown contender 'fastpi'. Did you mean 'fastapi'"),
        (["--contenders", "zoo", "--rounds", "0"], "must be positive. Pass numbers of at least 1"),
    ],
)
def test_invalid_options_are_rejected(words, message, capsys):
    assert cli.main(["benchmark", "server", "nowhere", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_is_measured(tmp_path):
    pytest.importorskip("starlette", reason="needs the extra `serve`")
    write_artifact(tmp_path / "commands" / "1", "commands")
    words = ["benchmark", "server", str(tmp_path / "commands"), "--contenders", "zoo", "--clients", "1", "8"]
    words += ["--seconds", "1", "--rounds", "2", "--output", str(tmp_path / "server.csv")]
    source = "import sys; from zoo.scripts import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-P", "-c", source, *words], capture_output=True, text=True, check=True)
    assert re.search(r"^commands, 1 client: p50 -?[\d.]+ ms above [\d.]+ ms in process", done.stdout, re.MULTILINE)
    inside, one, eight = server.read(tmp_path / "server.csv")
    assert inside.contender == server.IN_PROCESS and (one.clients, eight.clients) == (1, 8)
    assert not one.errors and not eight.errors and one.megabytes > 200 and one.ready_seconds > 0.5
    assert eight.requests_per_second > 0
