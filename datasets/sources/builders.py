"""Builders for TensorFlow Datasets, for data sets that it lacks. Importing this module registers them there.

Each class declares its `tasks`, its `keys` (our key of each part of an example, and the builder's key), its `windows`
(steps of history and of forecast, for a long series) and `facts` about the data. Facts that are read from the files are
stored in the builder's metadata. `FILES` are the original files; `COPIES` names copies with other names. A class whose
examples are rows of a table declares its `target` column, `table_options` where the usual ones do not fit, and whether it
`keeps_order`: the rows then have the order of the files, which TensorFlow Datasets otherwise shuffles.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import math
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from zoo.datasets.sources.splitting import digest, divide, divide_users_by_time, sentence_groups

SPLITS = ("train", "validation", "test")
Example = dict[str, Any]


class Declared(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the builders below. The user provides the original files, and the class declares how to use them."""

    VERSION = tfds.core.Version("1.0.0")
    FILES: ClassVar[tuple[str, ...]] = ()
    COPIES: ClassVar[Mapping[str, str]] = {}
    HOME: ClassVar[str] = ""
    tasks: ClassVar[tuple[str, ...]]
    keys: ClassVar[Mapping[str, str]]
    facts: ClassVar[Mapping[str, Any]] = {}
    windows: ClassVar[tuple[int, int] | None] = None
    keeps_order: ClassVar[bool] = False
    target: ClassVar[str | None] = None
    table_options: ClassVar[Mapping[str, Any]] = {}

    def features(self) -> dict[str, Any]:
        """Returns the features of an example."""
        raise NotImplementedError

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """Yields the split and the content of every example, from the original files in a folder."""
        raise NotImplementedError

    def __init_subclass__(cls, **settings: Any) -> None:
        cls.MANUAL_DOWNLOAD_INSTRUCTIONS = f"{' and '.join(cls.FILES)}, from {cls.HOME}"
        super().__init_subclass__(**settings)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=" ".join((self.__doc__ or "").split("\n\n")[0].split()),
            features=tfds.features.FeaturesDict(self.features()),
            homepage=self.HOME,
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=self.keeps_order,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Example]]]:
        missing = [file for file in self.FILES if not self.original(dl_manager.manual_dir, file).exists()]
        if missing:
            raise AssertionError(f"{' and '.join(missing)}, from {self.HOME}.")
        held = list(self.rows(dl_manager.manual_dir))
        present = [split for split in SPLITS if any(role == split for role, _ in held)]
        return {split: self._generate_examples(held, split) for split in present}

    def original(self, folder: Any, file: str) -> Any:
        """Returns the path of an original file, or of its copy if only that exists."""
        copy = folder / self.COPIES.get(file, file)
        return copy if copy.exists() and not (folder / file).exists() else folder / file

    def _generate_examples(self, held: list[tuple[str, Example]], wanted: str) -> Iterator[tuple[int, Example]]:
        for number, (split, example) in enumerate(held):
            if split == wanted:
                yield number, example


class SmsSpam(tfds.core.GeneratorBasedBuilder):
    """5,574 English text messages, ham or spam, from the file `SMSSpamCollection`.

    The source has no splits, and about 400 messages occur more than once. The SHA-256 of a message decides its split, so
    that no text is in two splits: a tenth is test, and a tenth validation. Source: Almeida, Hidalgo and Yamakami,
    Contributions to the study of SMS spam filtering, ACM DocEng 2011.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "the file SMSSpamCollection of UCI's data set 228, from https://archive.ics.uci.edu/dataset/228/sms+spam+collection"

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["ham", "spam"])}
        return tfds.core.DatasetInfo(
            builder=self,
            description="English text messages, ham or spam.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("text", "label"),
            homepage="https://archive.ics.uci.edu/dataset/228/sms+spam+collection",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, str]]]]:
        file = dl_manager.manual_dir / "SMSSpamCollection"
        if not file.exists():
            raise AssertionError(self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        lines = file.read_text(encoding="utf-8").splitlines()
        return {split: self._generate_examples(lines, split) for split in ("train", "validation", "test")}

    def _generate_examples(self, lines: list[str], wanted: str) -> Iterator[tuple[int, dict[str, str]]]:
        for number, line in enumerate(lines):
            label, _, text = line.partition("\t")
            tenth = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
            if {0: "test", 1: "validation"}.get(tenth, "train") == wanted:
                yield number, {"text": text, "label": label}


class IndoorMovement(Declared):
    """314 walks through offices as radio signal strengths of 4 anchors at 8 Hz: does the walk end in another room?

    The source scaled the signals to -1 to 1. It has no splits. The walks of each class in each of the three environments
    are ranked by the SHA-256 of their signals; a fifth is test, and a tenth validation. `environment`
    (1 to 3) and `path` (1 to 6) are the source's grouping. Source: Bacciu, Barsocchi, Chessa, Gallicchio and Micheli, An
    experimental characterization of reservoir computing in ambient assisted living applications, Neural Computing and
    Applications 24, 2014.
    """

    FILES = ("IndoorMovement.zip",)
    HOME = "https://archive.ics.uci.edu/dataset/348/indoor+user+movement+prediction+from+rss+data"
    tasks = ("series_classification",)
    keys: ClassVar = {"series": "series", "label": "label"}
    facts: ClassVar = {"channels": [f"signal of anchor {n}" for n in range(1, 5)], "steps_per_second": 8}

    def features(self) -> dict[str, Any]:
        """See the base."""
        return {
            "series": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
            "label": tfds.features.ClassLabel(names=["stays", "changes room"]),
            "environment": tfds.features.Scalar(dtype=np.int64),
            "path": tfds.features.Scalar(dtype=np.int64),
        }

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """See the base."""
        with zipfile.ZipFile(folder / self.FILES[0]) as archive:

            def table(member: str) -> dict[str, str]:
                lines = archive.read(member).decode("ascii").splitlines()[1:]
                return dict(line.replace(" ", "").split(",") for line in lines if line.strip())

            labels = table("dataset/MovementAAL_target.csv")
            environments = table("groups/MovementAAL_DatasetGroup.csv")
            paths = table("groups/MovementAAL_Paths.csv")
            series = {
                number: np.loadtxt(
                    io.BytesIO(archive.read(f"dataset/MovementAAL_RSS_{number}.csv")),
                    np.float32,
                    delimiter=",",
                    ndmin=2,
                )
                for number in labels
            }
        strata = [(labels[number], environments[number]) for number in labels]
        parts = divide([digest(series[number].tobytes()) for number in labels], strata, (0.7, 0.1, 0.2))
        for number, part in zip(labels, parts, strict=True):
            yield (
                SPLITS[part],
                {
                    "series": series[number],
                    "label": int(labels[number] == "1"),
                    "environment": int(environments[number]),
                    "path": int(paths[number]),
                },
            )


class BikeSharing(Declared):
    """Rented bicycles of every hour of 2011 and 2012 in Washington, D.C., with weather and calendar.

    The whole series is one example: float32 (17544, 7), one row per hour from 2011-01-01 00:00. The file has 17,379 rows.
    It lacks 165 hours, and no hour in it has the count 0, so the missing hours are those without a rental (most are at
    night, others in a hurricane and in snow). They get the count 0 and the weather of the hour before, so that no value
    comes from the future. The metadata has their number. Units follow the source's Readme: its columns are multiplied by
    41 degrees Celsius for temperature, 100 % for humidity and 67 km/h for wind speed. Source: Fanaee-T and Gama, Event
    labeling combining ensemble detectors and background knowledge, Progress in Artificial Intelligence, 2013.
    """

    FILES = ("hour.csv",)
    HOME = "https://archive.ics.uci.edu/dataset/275/bike+sharing+dataset"
    tasks = ("forecasting",)
    keys: ClassVar = {"series": "series"}
    facts: ClassVar = {
        "channels": ["count", "temperature", "humidity", "wind_speed", "working_day", "hour_sin", "hour_cos"],
        "unit": "bikes per hour",
        "naive": {"same hour yesterday": 24, "same hour last week": 168},
    }
    windows: ClassVar[tuple[int, int] | None] = (168, 24)

    def features(self) -> dict[str, Any]:
        """See the base."""
        return {"series": tfds.features.Tensor(shape=(None, 7), dtype=np.float32)}

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """See the base."""
        lines = csv.DictReader(io.StringIO((folder / self.FILES[0]).read_text(encoding="utf-8")))
        known = {(row["dteday"], int(row["hr"])): row for row in lines}
        working = {day: float(row["workingday"]) for (day, _), row in known.items()}
        days = sorted(working)
        day, last = datetime.date.fromisoformat(days[0]), datetime.date.fromisoformat(days[-1])
        weather = [math.nan] * 3
        series = []
        while day <= last:
            for hour in range(24):
                row = known.get((day.isoformat(), hour))
                if row is not None:
                    weather = [41 * float(row["temp"]), 100 * float(row["hum"]), 67 * float(row["windspeed"])]
                angle = 2 * math.pi * hour / 24
                count = float(row["cnt"]) if row is not None else 0.0
                series.append([count, *weather, working[day.isoformat()], math.sin(angle), math.cos(angle)])
            day += datetime.timedelta(days=1)
        self.info.metadata.update(begins=f"{days[0]} 00:00", filled_hours=len(series) - len(known))
        yield "train", {"series": np.array(series, np.float32)}


class FraEng(Declared):
    """142,787 short English sentences with their French translations, from Tatoeba.

    The source has no splits. Pairs that share an English or a French sentence (without case, punctuation and spacing),
    directly or through other pairs, stay together. So no sentence of either language is in two splits. The SHA-256 of a
    group's first sentence decides: 3 % are test, 3 % validation. Source: Tatoeba, as packed by manythings.org/anki in 2017.
    """

    FILES = ("fra-eng.zip",)
    HOME = "https://www.manythings.org/anki/"
    tasks = ("translation",)
    keys: ClassVar = {"text": "text", "translation": "translation"}

    def features(self) -> dict[str, Any]:
        """See the base."""
        return {"text": tfds.features.Text(), "translation": tfds.features.Text()}

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """See the base."""
        with zipfile.ZipFile(folder / self.FILES[0]) as archive:
            lines = archive.read("fra.txt").decode("utf-8").split("\n")  # splitlines splits at other characters too
        pairs = [(text, translation) for text, translation in (line.split("\t")[:2] for line in lines if "\t" in line)]
        for (text, translation), group in zip(pairs, sentence_groups(pairs), strict=True):
            share = int.from_bytes(group, "big") % 100
            split = "test" if share < 3 else "validation" if share < 6 else "train"
            yield split, {"text": text, "translation": translation}


class Movietweetings100k(Declared):
    """Ratings of films, 0 to 10, that people wrote on Twitter: the users with 5 or more of 100,000 ratings.

    There are 80,854 ratings of 4,692 users. The ratings of each user are split by time: the last fifth (n // 5) is test,
    the tenth before it (n // 10, at least 1) validation, the rest train. Ratings of the same second keep the file's order.
    Ids of users and films are texts as in the file (IMDb's ids for films). The metadata has the titles, genres and years
    of all films.
    Source: Dooms, De Pessemier and Martens, MovieTweetings: a movie rating dataset collected from Twitter, CrowdRec 2013.
    """

    VERSION = tfds.core.Version("1.1.0")  # 1.0.0 had no genres and years
    name = "movietweetings_100k"  # the name from the class would be movietweetings100k
    FILES = ("ratings.dat", "movies.dat")
    HOME = "https://github.com/sidooms/MovieTweetings"
    tasks = ("recommendation",)
    keys: ClassVar = {"user_id": "user_id", "item_id": "item_id", "rating": "rating", "time": "time"}
    facts: ClassVar = {"rating_range": [0, 10]}

    def features(self) -> dict[str, Any]:
        """See the base."""
        return {
            "user_id": tfds.features.Text(),
            "item_id": tfds.features.Text(),
            "rating": tfds.features.Scalar(dtype=np.float32),
            "time": tfds.features.Scalar(dtype=np.int64),
        }

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """See the base."""
        ratings, films = (
            [line.split("::") for line in (folder / file).read_text(encoding="utf-8").split("\n") if line]
            for file in self.FILES
        )
        years = [re.search(r"\((\d{4})\)$", film[1].strip()) for film in films]
        features = {
            "genres": [film[2] for film in films],
            "year": [None if year is None else float(year[1]) for year in years],
        }
        items = {"ids": [film[0] for film in films], "kinds": {"genres": "list", "year": "number"}, "columns": features}
        self.info.metadata.update(titles={film[0]: film[1] for film in films}, items=items)
        counts = Counter(user for user, *_ in ratings)
        kept = [row for row in ratings if counts[row[0]] >= 5]
        parts = divide_users_by_time([row[0] for row in kept], [int(row[3]) for row in kept])
        for (user, item, rating, time), part in zip(kept, parts, strict=True):
            yield SPLITS[part], {"user_id": user, "item_id": item, "rating": float(rating), "time": int(time)}
