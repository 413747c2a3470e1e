"""Data sets that are built from original files, compared with independent readings of the same files."""

from __future__ import annotations

import csv
import datetime
import os
import unicodedata
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

import zoo
from source_examples import SPLITS, message, rows, sizes, words

# --- The builders, on small files of the same format ------------------------------------------------------------------

BUILDERS = {
    "indoor_movement": "IndoorMovement.zip",
    "bike_sharing": "hour.csv",
    "fra_eng": "fra-eng.zip",
    "movietweetings_100k": "ratings.dat and movies.dat",
}


@pytest.mark.parametrize("name", BUILDERS)
def test_builders_name_the_files_that_they_require(tmp_path, name):
    found = message(name, data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path))
    assert found.startswith(
        f"Data set '{name}' needs files that you must download yourself: {BUILDERS[name]}, from https://"
    )
    assert found.endswith("Pass their folder with --data.manual_dir FOLDER.")
    assert name in zoo.datasets.list_datasets()


def test_other_original_files_are_rejected(tmp_path):
    with zipfile.ZipFile(tmp_path / "fra-eng.zip", "w") as archive:
        archive.writestr("deu.txt", "Go.\tGeh.\n")
    for content in (None, b"not a zip"):
        if content:
            (tmp_path / "fra-eng.zip").write_bytes(content)
        found = message("fra_eng", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path))
        assert found.startswith(
            f"An original file of 'fra_eng' in {tmp_path} has other content than the published one: "
        )
        assert found.endswith("Replace it with the published file.")


def test_missing_hours_are_filled(tmp_path):
    """Missing hours are filled with no rental and the previous weather."""
    header = "dteday,hr,workingday,temp,hum,windspeed,cnt"
    start = datetime.datetime(2011, 1, 1)
    hours = [start + datetime.timedelta(hours=h) for h in range(24 * 40)]
    left_out = {5, 6, 100, 959}
    lines = [f"{t:%Y-%m-%d},{t.hour},{int(t.weekday() < 5)},{h / 1000},0.5,0.1,{h + 1}" for h, t in enumerate(hours)]
    content = [header, *(line for h, line in enumerate(lines) if h not in left_out)]
    (tmp_path / "hour.csv").write_text("\n".join(content))
    data = zoo.datasets.load(
        "bike_sharing", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path), window=48, horizon=12
    )
    assert data.about["filled_hours"] == 4
    series = {}
    for e in rows(data, "train"):
        series.setdefault(round(float(e["series"][0, 1] / 0.041)), e["series"][0])
    np.testing.assert_allclose(series[4], [5, 41 * 0.004, 50, 6.7, 0, np.sin(np.pi / 3), 0.5], rtol=1e-5)
    first = next(e["series"] for e in rows(data, "train"))
    np.testing.assert_allclose(first[4:8, 0], [5, 0, 0, 8])
    np.testing.assert_allclose(first[4:8, 1], 41 * np.array([0.004, 0.004, 0.004, 0.007]), rtol=1e-5)
    np.testing.assert_allclose(first[5:7, 5], np.sin(2 * np.pi * np.array([5, 6]) / 24), rtol=1e-5)
    again = zoo.datasets.load("bike_sharing", **data.arguments)
    assert again.about == data.about, "what the files said is kept with the prepared data"
    assert data.arguments["window"] == 48
    assert sizes(again) == [672 - 48 - 11, 96 - 11, 192 - 11]


# --- The original files ----------------------------------------------------------------------------------------------

MANUAL_DIR = Path(os.environ.get("ZOO_MANUAL_DIR") or "/nowhere")


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Loads a set from its original files, prepared once; $ZOO_DATA_DIR can name a folder with prepared data."""
    data_dir = os.environ.get("ZOO_DATA_DIR") or str(tmp_path_factory.mktemp("prepared"))

    def load(name, **options):
        folder = MANUAL_DIR / name.replace("/", "_")
        if not folder.is_dir():
            pytest.skip(f"ZOO_MANUAL_DIR names no folder with the original files in {folder.name}/")
        return zoo.datasets.load(name, data_dir=data_dir, manual_dir=str(folder), **options)

    return load


@pytest.mark.slow
def test_walks_equal_those_in_the_archive(originals):
    data = originals("indoor_movement")
    assert sizes(data) == [222, 30, 62]
    with zipfile.ZipFile(MANUAL_DIR / "indoor_movement" / "IndoorMovement.zip") as archive:
        targets = archive.read("dataset/MovementAAL_target.csv").decode().split("\n")[1:]
        expected = Counter()
        for number, label in (line.split(",") for line in targets if line):
            lines = archive.read(f"dataset/MovementAAL_RSS_{int(number)}.csv").decode().split("\n")[1:]
            values = np.array([[float(v) for v in line.split(",")] for line in lines if line], np.float32)
            expected[values.tobytes(), "changes room" if int(label) == 1 else "stays"] += 1
    found = Counter((e["series"].tobytes(), data.class_names[e["label"]]) for e in rows(data))
    assert found == expected
    assert sum(len(e["series"]) for e in rows(data)) == 13197, "as the source's description says"
    held = [{e["series"].tobytes() for e in rows(data, s)} for s in SPLITS]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    shares = [np.mean([e["label"] for e in rows(data, s)]) for s in SPLITS]
    assert np.ptp(shares) < 0.03


@pytest.mark.slow
def test_hours_equal_those_in_the_file(originals):
    data = originals("bike_sharing")
    assert sizes(data) == [12089, 1732, 3486]
    assert data.about["filled_hours"] == 17544 - 17379
    with open(MANUAL_DIR / "bike_sharing" / "hour.csv") as file:
        known = {f"{r['dteday']} {int(r['hr']):02}": r for r in csv.DictReader(file)}
    start = datetime.datetime(2011, 1, 1)
    hours = [f"{start + datetime.timedelta(hours=h):%Y-%m-%d %H}" for h in range(17544)]
    counts = np.array([float(known[h]["cnt"]) if h in known else 0 for h in hours])
    position = 168
    for split, (first, last) in zip(SPLITS, [(168, 12280), (12280, 14035), (14035, 17544)], strict=True):
        position = first
        for example in data.splits[split].dataset().as_numpy_iterator():
            np.testing.assert_array_equal(example["forecast"], counts[position : position + 24])
            np.testing.assert_array_equal(example["series"][:, 0], counts[position - 168 : position])
            position += 1
        assert position + 23 == last, "forecasts of a split end before those of the next begin"
    for i, hour in enumerate(hours[position - 169 : position - 1]):
        if hour in known:
            row = known[hour]
            expected = [
                41 * float(row["temp"]),
                100 * float(row["hum"]),
                67 * float(row["windspeed"]),
                int(row["workingday"]),
            ]
            np.testing.assert_allclose(example["series"][i, 1:5], expected, rtol=1e-5)
    shorter = originals("bike_sharing", window=24, horizon=1)
    assert sizes(shorter) == [12280 - 24, 1755, 3509]


def plain(sentence: str) -> str:
    kept = (" " if unicodedata.category(c)[0] in "PSZC" else c for c in unicodedata.normalize("NFKC", sentence).lower())
    return " ".join("".join(kept).split())


@pytest.mark.slow
def test_pairs_equal_those_in_the_archive_and_splits_share_no_sentence(originals):
    data = originals("fra_eng")
    assert sizes(data) == [134080, 4470, 4237]
    with zipfile.ZipFile(MANUAL_DIR / "fra_eng" / "fra-eng.zip") as archive:
        lines = archive.read("fra.txt").decode("utf-8").split("\n")
    assert Counter((words(e), words(e, "translation")) for e in rows(data)) == Counter(
        tuple(line.split("\t")) for line in lines if line
    )
    for key in ("text", "translation"):
        held = [{plain(words(e, key)) for e in rows(data, s)} for s in SPLITS]
        assert not held[0] & held[1]
        assert not held[0] & held[2]
        assert not held[1] & held[2]


@pytest.mark.slow
def test_ratings_equal_those_in_the_file_in_time_order(originals):
    data = originals("movietweetings_100k")
    assert sizes(data) == [58420, 7846, 14588]
    lines = (MANUAL_DIR / "movietweetings_100k" / "ratings.dat").read_text().splitlines()
    ratings = [tuple(line.split("::")) for line in lines]
    counts = Counter(r[0] for r in ratings)
    found = {
        s: [(words(e, "user_id"), words(e, "item_id"), float(e["rating"]), int(e["time"])) for e in rows(data, s)]
        for s in SPLITS
    }
    assert Counter(r for part in found.values() for r in part) == Counter(
        (u, i, float(r), int(t)) for u, i, r, t in ratings if counts[u] >= 5
    )
    assert len({r[0] for r in found["test"]}) == len({r[0] for r in found["validation"]}) == 4692
    latest, earliest = defaultdict(lambda: defaultdict(int)), defaultdict(lambda: defaultdict(lambda: 1 << 40))
    for split, part in found.items():
        for user, _, _, time in part:
            latest[split][user] = max(latest[split][user], time)
            earliest[split][user] = min(earliest[split][user], time)
    for user in latest["train"]:
        assert latest["train"][user] <= earliest["validation"][user]
        assert latest["validation"][user] <= earliest["test"][user]
    assert data.about["titles"]["0002844"] == "Fantômas - À l'ombre de la guillotine (1913)"
    assert len(data.about["titles"]) == 10506
    features = data.about["items"]
    place = features["ids"].index("0002844")
    assert [features["columns"][name][place] for name in ("genres", "year")] == ["Crime|Drama", 1913.0]
    assert {i for part in found.values() for _, i, _, _ in part} <= set(data.about["titles"])


@pytest.mark.slow
def test_sentences_equal_those_in_the_treebank(originals):
    data = originals("universal_dependencies/en_ewt")
    assert sizes(data) == [12543, 2001, 2077]
    assert "_" not in data.class_names
    assert len(data.class_names) == 17
    for split, part in zip(SPLITS, ("train", "dev", "test"), strict=True):
        file = MANUAL_DIR / "universal_dependencies_en_ewt" / f"en_ewt-ud-{part}.conllu"
        expected = Counter()
        for block in file.read_text(encoding="utf-8").strip().split("\n\n"):
            text = next(line[9:] for line in block.split("\n") if line.startswith("# text = "))
            cells = [line.split("\t") for line in block.split("\n") if not line.startswith("#")]
            cells = [c for c in cells if "-" not in c[0] and c[3] != "_"]
            expected[text, tuple(c[1] for c in cells), tuple(c[3] for c in cells)] += 1
        found = Counter(
            (words(e), tuple(t.decode() for t in e["tokens"]), tuple(data.class_names[t] for t in e["tags"]))
            for e in rows(data, split)
        )
        assert found == expected
