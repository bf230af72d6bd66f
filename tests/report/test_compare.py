"""Two reports: what differs beyond its error comes first, and nothing is called different that may be the same."""

import json
import math

import pytest

from separatrix.report.compare import Row, compare, differences
from separatrix.report.page import to_record
from separatrix.stability.number import Number

from .sample import evidence


def row(a, b):
    return Row("x", "n", a, b)


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        (Number(1, "estimated", 0.9, 1.1), Number(2, "estimated", 1.8, 2.2), True),
        (Number(1, "estimated", 0.9, 1.9), Number(2, "estimated", 1.8, 2.2), False),
        (Number(1, "measured"), Number(2, "estimated", 1.8, 2.2), True),
        (Number(2, "measured"), Number(2, "estimated", 1.8, 2.2), False),
        (Number(1, "measured"), Number(2, "measured"), None),
        (Number(1, "estimated"), Number(2, "estimated", 1.8, 2.2), None),
        (Number(9, "bound", low=9), Number(2, "estimated", 1.8, 2.2), True),
        (Number(9, "bound", high=9), Number(2, "estimated", 1.8, 2.2), False),
        (Number(9, "bound", high=9), Number(4e9, "bound", high=4e9), None),
        (Number(math.nan, "measured"), Number(2, "measured"), None),
    ],
)
def test_different_means_beyond_the_error(first, second, apart):
    assert row(first, second).apart is apart
    assert row(second, first).apart is apart


def test_ratios_of_zero_and_of_nothing_are_left_out():
    assert math.isnan(row(Number(0, "measured"), Number(1, "measured")).ratio)
    assert row(Number(0, "measured"), Number(1, "measured")).size == row(Number(math.nan, "measured"), Number(1, "measured")).size == -1


def test_a_report_against_itself_and_another(tmp_path, sample):
    for name, found in (("one", sample), ("two", evidence(model_rho=24.0))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "evidence.json").write_text(json.dumps(to_record(found), default=str))
    same = differences(*[json.loads((tmp_path / "one" / "evidence.json").read_text())] * 2, ("a", "b"))
    assert not same.differ and not same.unclear and not same.settings
    assert len(same.agree) == sum(len(f.numbers) for f in sample.findings)
    page = compare(tmp_path / "one", tmp_path / "two")
    assert "http" not in page and page.index("Different") < page.index("The same within their error")
    assert sample.judgement.sentence in page


def test_what_is_no_evidence_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        compare(tmp_path, tmp_path)
    (tmp_path / "evidence.json").write_text('{"verdict": "holds"}')
    with pytest.raises(ValueError, match="not the evidence of a report"):
        compare(tmp_path, tmp_path)
