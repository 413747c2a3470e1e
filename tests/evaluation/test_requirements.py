"""Requirements on the metrics of a report."""

from __future__ import annotations

import pytest

from zoo.errors import UsageError
from zoo.evaluation import read_requirements, unmet

REPORT = {
    **{"task": "t", "accuracy": 0.9, "log_loss": 0.3, "num_examples": 10, "roc_auc": None},
    "headline": [{"metric": "hit rate at 10", "value": 0.25}, {"metric": "accuracy", "value": 0.9}],
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accuracy>=0.9", None),
        ("accuracy > 0.9", "accuracy is 0.9; required is > 0.9"),
        ("accuracy>=0.95", "accuracy is 0.9000; required is >= 0.95"),
        ("log_loss<0.3001", None),
        ("log_loss<=0.25", "log_loss is 0.3000; required is <= 0.25"),
        ("hit rate at 10>=0.3", "hit rate at 10 is 0.2500; required is >= 0.3"),
        ("roc_auc>=0", "roc_auc is undefined; required is >= 0"),
    ],
)
def test_requirements_are_compared_with_the_report(text, said):
    assert unmet(REPORT, [text]) == ([said] if said else [])


@pytest.mark.parametrize(
    "text", ["accuracy", "accuracy=0.9", "accuracy==0.9", ">=0.9", "accuracy>=high", "accuracy>=nan"]
)
def test_other_forms_are_rejected(text):
    with pytest.raises(UsageError, match=r"is not of the form METRIC>=NUMBER. Pass \"accuracy>=0.9\""):
        read_requirements([text])


def test_the_message_suggests_what_can_be_required():
    with pytest.raises(UsageError, match=r'Pass "moved<=0" or "largest_index<=0.5", say'):
        read_requirements("moved", ("moved<=0", "largest_index<=0.5"))


def test_unknown_metrics_are_rejected():
    with pytest.raises(UsageError, match=r"no metric 'acuracy'. Did you mean 'accuracy'"):
        unmet(REPORT, "acuracy>=0.5")
