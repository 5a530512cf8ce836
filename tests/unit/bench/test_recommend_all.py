"""The drawn shop is what the benchmark says it is, and its ratios and floors are what their definitions say."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch

from bench.recommend_all import floors, ratios
from bench.recommending.ours import MOMENT, InProcess
from bench.recommending.rivals import PlainProduct
from bench.recommending.shop import LONGEST, MAKERS, Sizes, write_histories, write_model
from recsys_spark.fusion.model import FusedModel

SIZES = Sizes(users=60, items=90, width=8, events=6, ease_items=40)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    write_histories(folder / "histories.parquet", SIZES)
    return folder, write_model(folder, list(MAKERS), SIZES)


def test_histories_have_the_asked_length_on_average_and_their_events_in_order(shop) -> None:
    folder, _ = shop
    rows = pq.read_table(folder / "histories.parquet").to_pylist()
    assert [row["user_index"] for row in rows] == list(range(1, 61))
    lengths = [len(row["items"]) for row in rows]
    assert min(lengths) >= 1
    assert max(lengths) <= LONGEST
    assert 4 <= sum(lengths) / 60 <= 8
    assert all(row["times"] == sorted(row["times"]) for row in rows)
    assert all(max(row["times"]) < MOMENT.now for row in rows)


def test_every_recommender_of_the_drawn_shop_is_saved_loaded_and_scores_everyone(shop) -> None:
    folder, model = shop
    ours = InProcess(FusedModel.load(model), folder / "histories.parquet", 1 << 15)
    blocks = list(ours.blocks())
    assert len(blocks) > 1
    assert sum(block.batch.size for block in blocks) == 60
    for name in MAKERS:
        scores = ours.model.recommenders[name].score(blocks[0].batch)
        assert scores.scores.shape == (blocks[0].batch.size, 90)
        assert name == "ease" or bool(scores.can_score.all())  # who had nothing that EASE covers is not scored by it


def test_the_parts_under_the_watch_are_all_of_the_pass(shop) -> None:
    folder, model = shop
    seconds = InProcess(FusedModel.load(model), folder / "histories.parquet", 1 << 20).seconds_by_part(
        ["als", "gru"], 5
    )
    wanted = {f"{name}: {side}" for name in ("als", "gru") for side in ("users", "items")}
    assert set(seconds) == {*wanted, "histories", "sum", "top k"}


def test_the_plain_product_is_that_of_its_factors() -> None:
    plain = PlainProduct(users=7, items=5, width=3, block=4)
    plain.product()
    assert torch.equal(plain._scores[:3], plain.users_UD[4:] @ plain.items_DI)


def test_ratios_are_their_time_over_ours_where_it_was_taken() -> None:
    seconds = {"ours": 2.0, "ours in Spark": 4.0, "Spark ML 8": 80.0, "implicit 8": 3.0, "product 8, top k": 1.0}
    assert ratios(seconds, [8]) == {"Spark ML 8": 20.0, "implicit 8": 1.5, "product 8, top k": 0.5}


def test_floors_are_arithmetic_over_the_measured_rate_and_bytes_over_that_of_memory() -> None:
    sizes = Sizes(users=1, items=1000, width=10, events=6, ease_items=50)
    # 2 x 1,000 x 10 operations in 20 us and twice as many in 30 us: the better rate is 4/3 of 1e9.
    seconds = {"product 10": 20e-6, "product 20": 30e-6, "ours, products alone": 45e-6}
    parts = {"histories": 5e-6, "gru: users": 4e-6, "gru: items": 30e-6, "sum": 1e-6, "top k": 5e-6}
    found = floors(sizes, 2, seconds, parts, 1.2e9)
    assert found["matrix_gflops"] == pytest.approx(4 / 3)
    assert found["products_floor_microseconds"] == pytest.approx(30.0)
    assert found["products_over_floor"] == pytest.approx(1.5)
    assert found["products_over_floor_from_user_vectors"] == pytest.approx(1.2)
    assert found["ease_floor_microseconds"] == pytest.approx(4 * 6 * 50 / 1.2e9 * 1e6)
