from __future__ import annotations

import pytest

from recsys_spark.config import Config
from recsys_spark.pipeline.fits import fits_of, parameters_of

SOURCE = {"format": "csv", "path": "sales.csv", "columns": {"user_id": "u", "item_id": "i", "event_time": "t"}}


@pytest.mark.parametrize(
    ("evaluation", "fits"),
    [
        ({}, ("select", "publish")),
        ({"refit": True}, ("select", "test", "publish")),
        ({"only": True}, ("select",)),
        ({"only": True, "refit": True}, ("select", "test")),
    ],
)
def test_an_evaluation_alone_fits_nothing_for_publication(evaluation: dict[str, bool], fits: tuple[str, ...]) -> None:
    config = Config(source={**SOURCE, "event_type": "purchase"}, evaluation=evaluation)  # type: ignore[arg-type]
    assert fits_of(config) == fits
    assert parameters_of("test", config) == ("test" if evaluation.get("refit") else "select")
