"""How a run's name is written where other words stand beside it."""

import pytest

from keras_lm.presentation.formatting import name_run
from keras_lm.runs.supervisor import RunSummary


@pytest.mark.parametrize(
    "name, shown",
    [
        ("Small  é", "Small é"),
        ("\u202eabc", "abc"),
        ("a\u2066\u2069b", "ab"),
        ("\u05e9\u05dc", "\u2068\u05e9\u05dc\u2069"),
        ("\u0627 1", "\u2068\u0627 1\u2069"),
    ],
    ids=["left to right", "override", "isolates", "Hebrew", "Arabic"],
)
def test_a_name_turns_nothing_beside_it(name, shown):
    summary = RunSummary("20260131-093000-1f2e3d", "finished", None, {}, notes={"name": name})
    assert name_run(summary) == shown
