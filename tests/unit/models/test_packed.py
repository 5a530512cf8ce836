from __future__ import annotations

import pytest
import torch

from recsys_spark.models import packed
from recsys_spark.models.packed import Rows, last_places, pack

LENGTHS = [3, 1, 7, 1, 4, 5, 2, 7]


def values(rows: Rows) -> torch.Tensor:
    """Row and place of each position."""
    return torch.stack((rows.row_P, rows.place_P), dim=1).double()


def test_positions_know_their_row_and_place():
    rows = Rows(torch.tensor([2, 1, 3]))
    assert rows.row_P.tolist() == [0, 0, 1, 2, 2, 2]
    assert rows.place_P.tolist() == [0, 1, 0, 0, 1, 2]
    assert rows.starts_B.tolist() == [0, 2, 3]
    assert rows.last_B.tolist() == [1, 2, 5]
    assert rows.total == 6


def test_packing_leaves_the_padding_out():
    tokens, rows = pack(torch.tensor([[5, 6, 0, 0], [7, 0, 0, 0], [1, 2, 3, 4]]), torch.tensor([2, 1, 4]))
    assert tokens.tolist() == [5, 6, 7, 1, 2, 3, 4]
    assert rows.lengths_B.tolist() == [2, 1, 4]


def test_only_the_last_events_of_long_rows_are_kept():
    index, rows = last_places(torch.tensor([0, 10, 20]), torch.tensor([2, 5, 3]), most=3)
    assert index.tolist() == [0, 1, 12, 13, 14, 20, 21, 22]
    assert rows.lengths_B.tolist() == [2, 3, 3]


def test_a_packed_sequence_has_the_longest_row_first_and_place_by_place():
    rows = Rows(torch.tensor([1, 3, 2]))
    sequence = rows.to_packed_sequence(values(rows))
    assert sequence.data.tolist() == [[1, 0], [2, 0], [0, 0], [1, 1], [2, 1], [1, 2]]
    assert sequence.batch_sizes.tolist() == [3, 2, 1]
    assert torch.equal(rows.from_packed_sequence(sequence), values(rows))


@pytest.mark.parametrize("growth", [1.25, 4.0])  # a processor's, a GPU's
def test_groups_are_rectangles_of_rows_of_similar_length_with_zeros_behind_them(growth, monkeypatch):
    monkeypatch.setitem(packed.GROWTH, "cpu", growth)
    rows = Rows(torch.tensor(LENGTHS))
    groups = rows.to_groups(values(rows) + 1)
    found = {}
    for group in groups:
        real = (group > 0).all(dim=2)
        assert (real.sum(dim=1) * growth >= group.shape[1]).all()
        for row, there in zip(group, real, strict=True):
            assert there[: there.sum()].all()
            found[int(row[0, 0]) - 1] = (row[there][:, 1] - 1).tolist()
    assert found == {row: list(range(length)) for row, length in enumerate(LENGTHS)}
    assert torch.equal(rows.from_groups(groups), values(rows) + 1)


def test_gradients_go_the_way_back():
    rows = Rows(torch.tensor(LENGTHS))
    inputs = values(rows).requires_grad_()

    def there_and_back(values_PD: torch.Tensor) -> torch.Tensor:
        grouped = rows.from_groups([group.cumsum(dim=1) for group in rows.to_groups(values_PD)])
        return rows.from_packed_sequence(rows.to_packed_sequence(grouped))

    assert torch.autograd.gradcheck(there_and_back, (inputs,))
