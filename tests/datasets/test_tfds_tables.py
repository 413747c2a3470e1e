"""Tables of TensorFlow Datasets, with builders that generate their rows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

import zoo

CELLS = {
    "age": np.float32,
    "sex": tfds.features.ClassLabel(names=["female", "male"]),
    "home": tfds.features.Text(),
    "alone": np.bool_,
    "visits": np.int64,
    "tests": tfds.features.Tensor(shape=(3,), dtype=np.float32),
}


class Patients(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base class of the builders below."""

    VERSION = tfds.core.Version("1.0.0")
    target: ClassVar = {"ill": tfds.features.ClassLabel(names=["no", "yes"])}
    splits: ClassVar = {"train": 60}

    def _info(self):
        features = tfds.features.FeaturesDict({**CELLS, **self.target})
        supervised = ({name: name for name in CELLS}, *self.target)
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=supervised)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.splits}

    def _generate_examples(self, split):
        rng = np.random.default_rng(len(split))
        for index in range(self.splits[split]):
            row = {
                "age": rng.normal(50, 9) if index % 5 else np.nan,
                "sex": int(rng.integers(2)),
                "home": str(rng.choice(["Rome", "", "Oslo"])),
                "alone": bool(rng.integers(2)),
                "visits": int(rng.integers(9)),
                "tests": rng.normal(size=3).astype(np.float32),
            }
            yield index, {**row, **dict.fromkeys(self.target, self.goal(rng))}

    def goal(self, rng):
        return int(rng.integers(2))


class IllPatients(Patients):
    """A class label, and one split."""


class PatientCosts(Patients):
    """A number as the target, and two splits."""

    target: ClassVar = {"costs": np.float32}
    splits: ClassVar = {"train": 60, "test": 20}

    def goal(self, rng):
        return float(rng.normal(1_000, 100))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    for builder in (IllPatients, PatientCosts):
        builder(data_dir=folder).download_and_prepare()
    return folder


KINDS = {
    **{"age": "number", "sex": "category", "home": "category", "alone": "yes_no", "visits": "number"},
    **{f"tests_{place}": "number" for place in range(3)},
}


def test_builders_of_cells_are_tables(data_dir):
    data = zoo.datasets.load("ill_patients", data_dir=data_dir)
    assert data.task == "tabular_classification" and data.class_names == ("no", "yes")
    assert data.about["table"] == KINDS and data.about["table_columns"]["age"]["missing"] == 12
    assert {role: part.num_examples for role, part in data.splits.items()} == {"train": 48, "validation": 6, "test": 6}
    rows = [dict(example) for part in data.splits.values() for example in part.dataset().as_numpy_iterator()]
    builder = tfds.builder("ill_patients", data_dir=data_dir)
    theirs = {example["tests"].tobytes(): example for example in tfds.as_numpy(builder.as_dataset(split="train"))}
    for row in rows:
        other = theirs[np.array([row[f"tests_{place}"] for place in range(3)]).tobytes()]
        for name in ("age", "visits", "alone"):
            np.testing.assert_array_equal(row[name], np.float32(other[name]))
        assert row["home"] == other["home"] and row["sex"] == [b"female", b"male"][other["sex"]]
        assert row["label"] == other["ill"]


def test_a_number_is_a_value_and_options_of_tables_are_taken(data_dir):
    data = zoo.datasets.load("patient_costs", data_dir=data_dir, leave_out=["home"], scaling="quantile")
    assert data.task == "tabular_regression" and data.about["value_names"] == ["costs"] and "home" not in data.features
    assert {role: part.num_examples for role, part in data.splits.items()} == {"train": 54, "validation": 6, "test": 20}
    assert data.arguments == {"data_dir": data_dir, "leave_out": ["home"], "scaling": "quantile"}
    assert zoo.datasets.load(data.name, **data.arguments).splits["train"].sha256 == data.splits["train"].sha256
    data = zoo.datasets.load("patient_costs", data_dir=data_dir, columns={"label": "home"}, keep=["alone"])
    assert data.class_names == ("Oslo", "Rome") and "costs" in data.features
    assert data.prepare("mlp").interface.examples.requests["sex"].size
    with pytest.raises(zoo.UsageError, match=r"takes no window. Leave it out"):
        zoo.datasets.load("patient_costs", data_dir=data_dir, window=3)
