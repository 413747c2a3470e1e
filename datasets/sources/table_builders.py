"""Builders for TensorFlow Datasets, for tables that it lacks. Importing this module registers them there.

Their examples are the rows of the original files, with the columns' names and numbers. Which columns are used, and how, is
decided when the table is read, as for a CSV file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from zoo.datasets.sources.builders import Declared, Example


class Table(Declared, skip_registration=True):
    """Base of the builders below: `cells` are the columns, with the type of their cells, without the target."""

    tasks = ()
    keys: ClassVar = {}
    keeps_order = True  # a column that counts the rows is found by it
    cells: ClassVar[dict[str, type]]

    def features(self) -> dict[str, Any]:
        """See the base."""
        kinds = {str: tfds.features.Text(), int: np.int64, float: np.float32}
        return {name: kinds[kind] for name, kind in self.cells.items()}

    def example(self, row: dict[str, str]) -> Example:
        """Returns the columns of a row. A missing number is NaN."""
        return {name: kind(row[name] or ("nan" if kind is float else "")) for name, kind in self.cells.items()}


class Adult(Table):
    """48,842 adults of the US census of 1994: do they earn more than 50,000 dollars a year?

    The 16,281 rows of the source's test file are the test split. A question mark is a missing value. Source: Becker and
    Kohavi, Adult, UCI Machine Learning Repository, 1996, doi:10.24432/C5XW20.
    """

    FILES = ("adult.data", "adult.test")
    COPIES: ClassVar = {"adult.data": "adult-train.csv", "adult.test": "adult-test.csv"}
    HOME = "https://archive.ics.uci.edu/dataset/2/adult"
    target = "income"
    cells: ClassVar = {
        **{"age": int, "workclass": str, "fnlwgt": int, "education": str, "education-num": int, "marital-status": str},
        **{"occupation": str, "relationship": str, "race": str, "sex": str, "capital-gain": int, "capital-loss": int},
        **{"hours-per-week": int, "native-country": str},
    }

    def features(self) -> dict[str, Any]:
        """See the base."""
        return {**super().features(), "income": tfds.features.ClassLabel(names=["<=50K", ">50K"])}

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """See the base."""
        for split, file in zip(("train", "test"), self.FILES, strict=True):
            lines = self.original(folder, file).read_text(encoding="utf-8").splitlines()
            for line in lines:
                cells = [cell.strip() for cell in line.split(",")]
                if len(cells) > 1:  # the test file begins with a remark
                    *values, income = ["" if cell == "?" else cell for cell in cells]
                    row = dict(zip(self.cells, values, strict=True))
                    yield split, {**self.example(row), "income": income.removesuffix(".")}


class BikeSharingHours(Table):
    """17,379 hours of 2011 and 2012 in Washington, D.C., with weather and calendar: how many bicycles were rented?

    The two columns whose sum is the number, `casual` and `registered`, are left out. The latest tenth of the days is the test
    split, the tenth before it the validation split. The columns have the source's scales. Source: Fanaee-T and Gama, Event
    labeling combining ensemble detectors and background knowledge, Progress in Artificial Intelligence, 2013.
    """

    FILES = ("hour.csv",)
    HOME = "https://archive.ics.uci.edu/dataset/275/bike+sharing+dataset"
    target = "cnt"
    table_options: ClassVar = {"time": "dteday"}
    cells: ClassVar = {
        **{"instant": int, "dteday": str, "season": int, "yr": int, "mnth": int, "hr": int, "holiday": int},
        **{"weekday": int, "workingday": int, "weathersit": int, "temp": float, "atemp": float, "hum": float},
        **{"windspeed": float, "cnt": int},
    }

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """See the base."""
        yield from (("train", self.example(row)) for row in _rows(self.original(folder, *self.FILES)))


class CaliforniaHousing(Table):
    """20,640 districts of California in the census of 1990: what is the median value of a house?

    The number of bedrooms is missing in 207 rows. The source has no splits. Source: Pace and Barry, Sparse spatial
    autoregressions, Statistics and Probability Letters 33(3), 1997, with the distance from the ocean in words.
    """

    FILES = ("housing.csv",)
    HOME = "https://github.com/samerrkhann/California-Housing"
    target = "median_house_value"
    cells: ClassVar = {
        **{"longitude": float, "latitude": float, "housing_median_age": float, "total_rooms": float},
        **{"total_bedrooms": float, "population": float, "households": float, "median_income": float},
        **{"median_house_value": float, "ocean_proximity": str},
    }

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """See the base."""
        yield from (("train", self.example(row)) for row in _rows(self.original(folder, *self.FILES)))


def _rows(file: Any) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")))
