"""The least events of a stratum divide items as the evaluation divides single ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from recsys_spark.evaluation.item_facts import popularity_strata
from recsys_spark.monitoring.strata import least_events


@example([2, 1], 0.1, 0.6666666666666667)  # one step above 2 / 3, where share * total is not below 2
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.floats(0.05, 0.6), st.floats(0.65, 0.95))
def test_strata_are_those_of_the_evaluation(counts: list[int], head: float, mid: float) -> None:
    least = least_events(Counter(counts), (head, mid))
    ours = [0 if count >= least[0] else 1 if count >= least[1] else 2 for count in counts]
    assert ours == popularity_strata(np.array(counts), (head, mid)).tolist()
