"""What the settings of recommenders refuse, in words that say what to do."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from recsys_spark.config.recommenders import Ease, Trending


def test_ease_names_what_covers_a_larger_catalogue():
    with pytest.raises(ValidationError, match="at most 20,000 items; for a larger catalogue use item_knn or als"):
        Ease(max_items=20_001)


def test_a_rise_needs_a_longer_run_to_be_measured_against():
    with pytest.raises(ValidationError, match="long_half_life_days must be more than half_life_days"):
        Trending(half_life_days=60.0)
