"""Lists of a large micro-batch are made by tasks, and are those that the driver would have made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.online.step import process_batch
from recsys_spark.streaming.models import Models, maker
from recsys_spark.streaming.sorting import Moment, live_events, sort_rows
from tests.live_shop import AS_OF, judged_rows, published, random_lines, shop


def test_a_model_is_loaded_once_while_publications_are_of_it(tmp_path: Path) -> None:
    models = Models()
    _, publication = shop(tmp_path)
    first = models.load(publication)
    second = models.load(published(Path(publication.model_path), 2, as_of=AS_OF + 5))
    assert second.champion is first.champion
    assert second.publication.as_of == AS_OF + 5


@pytest.mark.slow
def test_tasks_make_the_lists_and_vectors_that_the_driver_would(spark: SparkSession, tmp_path: Path) -> None:
    store, publication = shop(tmp_path)
    lines = random_lines(40, 2)
    events = live_events(sort_rows(judged_rows(lines), 1, Moment(AS_OF, None, 1e9, 1e9), set()).events)
    live = Models().load(publication)
    here = process_batch(store, live, events, 1, make=maker(spark, 1000)).commit.users
    there = process_batch(store, live, events, 1, make=maker(spark, 1)).commit.users
    assert len(here) == len(there) > 5
    for one, other in zip(here, there, strict=True):
        assert one.list is not None
        assert other.list is not None
        assert (one.user_id, one.events) == (other.user_id, other.events)
        assert one.list.events == other.list.events
        assert [row.item_id for row in one.list.rows] == [row.item_id for row in other.list.rows]
        np.testing.assert_allclose(
            [row.score for row in one.list.rows], [row.score for row in other.list.rows], rtol=1e-5
        )
        np.testing.assert_allclose(one.vectors["als"], other.vectors["als"], rtol=1e-5)
