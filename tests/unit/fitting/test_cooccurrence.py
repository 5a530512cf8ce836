from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.fitting import cooccurrence
from recsys_spark.fitting.cooccurrence import blocks_for, map_blocks, products, rows_of, user_rows
from recsys_spark.fitting.item_knn import BM25
from recsys_spark.fitting.neighbours import nearest

USERS, ITEMS = 20, 15
X = np.random.default_rng(3).random((USERS, ITEMS)).astype(np.float32)
X[X < 0.6] = 0.0
X[:, 7] = 0.0  # an item that nobody had


def table(rows=range(USERS)):
    filled = [np.flatnonzero(X[row]) for row in rows]
    return pa.table(
        {
            "user_index": pa.array(list(rows), pa.int32()),
            "items": pa.array([items.tolist() for items in filled], pa.list_(pa.int32())),
            "weights": pa.array(
                [X[row, items] for row, items in zip(rows, filled, strict=True)], pa.list_(pa.float32())
            ),
        }
    )


@pytest.mark.parametrize(("num_blocks", "chunk"), [(1, 10_000_000), (4, 10_000_000), (3, 5)])
def test_the_blocks_together_are_the_whole_product(monkeypatch, num_blocks, chunk):
    monkeypatch.setattr(cooccurrence, "PRODUCTS_A_CHUNK", chunk)
    rows = rows_of(table())
    whole = np.zeros((ITEMS, ITEMS), dtype=np.float32)
    for block in range(num_blocks):
        for columns, part in products(rows, num_blocks, block):
            whole[np.ix_(rows.codes[columns], rows.codes)] += part.toarray()
    np.testing.assert_allclose(whole, X.T @ X, rtol=1e-5)


def test_the_order_of_users_does_not_change_a_single_bit():
    shuffled = rows_of(table([int(row) for row in np.random.default_rng(1).permutation(USERS)]))
    assert (shuffled.matrix != rows_of(table()).matrix).nnz == 0


@pytest.mark.parametrize("num_blocks", [1, 4])
def test_nearest_keeps_the_largest_similarities_and_never_the_item_itself(num_blocks):
    similarity = X.T @ X
    np.fill_diagonal(similarity, -1)
    found = pa.concat_tables(
        [nearest(rows_of(table()), num_blocks, block, 4) for block in range(num_blocks)]
    ).to_pylist()
    assert sorted(row["item"] for row in found) == [item for item in range(ITEMS) if item != 7]
    for row in found:
        expected = np.sort(np.argsort(-similarity[row["item"]], kind="stable")[:4])
        assert row["neighbours"] == expected.tolist()
        np.testing.assert_allclose(row["similarities"], similarity[row["item"], expected], rtol=1e-5)


def test_equally_near_neighbours_are_kept_by_their_code():
    everything = pa.table(
        {
            "user_index": pa.array([1, 2], pa.int32()),
            "items": pa.array([[2, 4, 6, 9]] * 2, pa.list_(pa.int32())),
            "weights": pa.array([[1.0] * 4] * 2, pa.list_(pa.float32())),
        }
    )
    found = nearest(rows_of(everything), 1, 0, 2).to_pylist()
    assert {row["item"]: row["neighbours"] for row in found} == {2: [4, 6], 4: [2, 6], 6: [2, 4], 9: [2, 4]}


def test_bm25_is_the_formula():
    rows = rows_of(table([0, 1]))
    idf = np.linspace(0.5, 2.0, ITEMS).astype(np.float32)
    weighted = BM25(k1=1.2, b=0.75, mean_length=4.0, idf=idf).weigh(rows)
    for user in (0, 1):
        length = X[user].sum()
        for column, item in enumerate(rows.codes):
            count = X[user, item]
            expected = idf[item] * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / 4.0))
            assert weighted.matrix[user, column] == pytest.approx(expected, rel=1e-5)


def test_work_decides_the_number_of_blocks():
    assert blocks_for(1_000, slots=2) == 4
    assert blocks_for(5_000_000_000, slots=2) == 100


def test_histories_are_cut_to_their_most_recent_items(spark):
    entries = spark.createDataFrame(
        [(1, 10, 1.0, 100), (1, 11, 2.0, 300), (1, 12, 3.0, 200), (2, 10, 1.0, 5)],
        "user_index int, item int, weight float, last_time bigint",
    )
    cut = {row["user_index"]: (row["items"], row["weights"]) for row in user_rows(entries, 2).collect()}
    assert cut == {1: ([11, 12], [2.0, 3.0]), 2: ([10], [1.0])}
    whole = {row["user_index"]: row["items"] for row in user_rows(entries).collect()}
    assert whole == {1: [10, 11, 12], 2: [10]}


def test_every_block_gets_the_whole_rows_of_the_users_who_touch_it(spark):
    rows = spark.createDataFrame(
        [(1, [0, 1], [1.0, 1.0]), (2, [2], [1.0]), (3, [1, 4], [1.0, 1.0])],
        "user_index int, items array<int>, weights array<float>",
    )

    def touched(block, part):
        return pa.table(
            {
                "block": pa.array([block]),
                "users": pa.array([part.matrix.shape[0]]),
                "entries": pa.array([part.matrix.nnz]),
            }
        )

    found = map_blocks(rows, 2, touched, "block bigint, users bigint, entries bigint").collect()
    # Even items: users 1, 2 and 3 with five entries; odd items: users 1 and 3 with four.
    assert sorted(tuple(row) for row in found) == [(0, 3, 5), (1, 2, 4)]
    halves = map_blocks(rows, 2, touched, "block bigint, users bigint, entries bigint", chunks=2).collect()
    assert sorted(tuple(row) for row in halves) == [(0, 1, 1), (0, 2, 4), (1, 2, 4)]
