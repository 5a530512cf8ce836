"""Reasons in words."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch

from recsys_spark.fusion.explain import _speaks
from recsys_spark.fusion.reasons import reason_text
from recsys_spark.recommenders.base import Evidence
from recsys_spark.recommenders.vocabulary import Vocabulary

VOCABULARY = Vocabulary(pa.table({"item_id": ["a"], "title": ["Rye bread"], "item_index": pa.array([3], pa.int32())}))


@pytest.mark.parametrize(
    ("kind", "item", "value", "detail", "text"),
    [
        ("trending", -1, 7.0, "", "on the rise this week"),
        ("trending", -1, 30.0, "", "on the rise lately"),
        ("trending", -1, 7.0, "2.3 times the usual", "on the rise this week (2.3 times the usual)"),
        ("popular", -1, 7.0, "", "popular this week"),
        ("popular", -1, 7.0, "number 3", "popular this week (number 3)"),
        ("popular_among", -1, 7.0, "among buyers of tea", "popular this week among buyers of tea"),
        ("popular_among", -1, 30.0, "", "popular lately"),
        ("because_of", 0, None, "", "because you chose Rye bread"),
        ("similar_text", 0, None, "rye, loaf", "like Rye bread (rye, loaf)"),
        ("similar_text", 0, None, "", "like Rye bread"),
        ("general", -1, None, "", "chosen by shoppers like you"),
    ],
)
def test_each_kind_of_evidence_has_its_words(kind, item, value, detail, text):
    assert reason_text(kind, item, value, VOCABULARY, detail) == text


def test_evidence_speaks_where_it_names_an_item_or_where_it_needs_none_has_a_number():
    items, values = torch.tensor([[0, -1]]), torch.tensor([[7.0, torch.nan]])
    assert _speaks(Evidence("because_of", items, values * torch.nan)).tolist() == [[True, False]]
    assert _speaks(Evidence("trending", items * 0 - 1, values)).tolist() == [[True, False]]
