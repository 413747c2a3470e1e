"""`zoo benchmark bulk`: files with other answers are not compared. Timings are not tested."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import time

import pytest

import zoo
from zoo.scripts.benchmarks import bulk


@pytest.mark.slow
def test_files_are_measured(tmp_path):
    file = tmp_path / "figures.csv"
    words = ["benchmark", "bulk", "--table_rows", "700", "--text_rows", "100", "--output", str(file)]
    source = "import sys; from zoo.scripts import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-P", "-c", source, *words], capture_output=True, text=True, check=True)
    assert re.search(r"^\| `mlp` \| iris \| 700 \| [\d,]+( \| [\d,]+ \(x[\d.]+\)){2} \|", done.stdout, re.MULTILINE)
    figures = list(csv.DictReader(file.open()))
    assert [(row["data"], row["contender"]) for row in figures] == [
        (data, name) for data in ("iris", "commands") for name in bulk.CONTENDERS
    ]
    assert all(float(row["rows_per_second"]) > 0 and float(row["megabytes"]) > 100 for row in figures)


def test_files_with_other_answers_are_not_compared(tmp_path):
    ours, theirs = tmp_path / "two.csv", tmp_path / "loop.csv"
    ours.write_text('input,row,name,p\na,1,x,"[0.5,0.5]"\na,2,y,"[0.25,0.75]"\n')
    theirs.write_text('name,p\nx,"[0.5, 0.500001]"\ny,"[0.25, 0.75]"\n')
    bulk.check_alike([ours, theirs], 2)
    with pytest.raises(zoo.UsageError, match=r"two.csv has 2 of 3 rows\. Leave it out"):
        bulk.check_alike([ours, theirs], 3)
    for other in ('name,p\nz,"[0.5, 0.5]"\ny,"[0.25, 0.75]"\n', 'name,p\nx,"[0.4, 0.6]"\ny,"[0.25, 0.75]"\n'):
        theirs.write_text(other)
        with pytest.raises(zoo.UsageError, match=r"loop.csv has other answers in (name|p)\. Leave it out"):
            bulk.check_alike([ours, theirs], 2)


def test_memory_is_that_of_a_process_and_its_children():
    memory = bulk.Memory(os.getpid())
    time.sleep(0.4)
    most, growth = memory.end()
    assert most > 0.8 * bulk._megabytes(os.getpid()) and abs(growth) < 100
