from __future__ import annotations

import pytest
import torch

from recsys_spark.models.packed import History, Rows
from recsys_spark.models.user_encoders import recurrent
from recsys_spark.models.user_encoders.context import GAP_BUCKETS, gap_buckets
from recsys_spark.models.user_side import UserSide
from tests.unit.models.steps import DIM, composition, history

LENGTHS = [3, 1, 6, 4, 2, 6]
CONTEXT = {"event_types": True, "time_gaps": True}
every_encoder = pytest.mark.parametrize(
    ("encoder", "layers"), [("mean", 1), ("gru", 1), ("gru", 2), ("lstm", 1), ("transformer", 1), ("transformer", 2)]
)


def side(encoder: str, layers: int = 1, **changes) -> UserSide:
    made = UserSide(composition(encoder, layers=layers, **changes))
    made.reset_parameters(torch.Generator().manual_seed(1))
    return made


def inputs(lengths: list[int]) -> torch.Tensor:
    return torch.randn(sum(lengths), DIM, generator=torch.Generator().manual_seed(2))


def row_of(known: History, row: int) -> History:
    own = known.rows.row_P == row
    return History(Rows(known.rows.lengths_B[row : row + 1]), known.event_types_P[own], known.gaps_P[own])


@every_encoder
@pytest.mark.parametrize("context", [{}, CONTEXT], ids=["items", "items and context"])
def test_packed_rows_are_encoded_as_each_row_alone(encoder, layers, context):
    encode, known, vectors = side(encoder, layers, **context), history(LENGTHS), inputs(LENGTHS)
    together = encode(vectors, known)
    for row in range(len(LENGTHS)):
        own = known.rows.row_P == row
        torch.testing.assert_close(encode(vectors[own], row_of(known, row)), together[own], atol=1e-6, rtol=1e-4)


@every_encoder
def test_what_comes_later_changes_nothing_not_even_how_much_it_is(encoder, layers):
    encode, vectors = side(encoder, layers, **CONTEXT), inputs(LENGTHS)
    before = encode(vectors, history(LENGTHS))
    cut, kept = history([2]), history(LENGTHS).rows.row_P == 5
    torch.testing.assert_close(encode(vectors[kept][:2], cut), before[kept][:2], atol=1e-6, rtol=1e-4)
    changed = vectors.clone()
    changed[-2:] += 100.0
    after = encode(changed, history(LENGTHS))
    torch.testing.assert_close(after[:-2], before[:-2])
    assert not torch.allclose(after[-2:], before[-2:])


@every_encoder
def test_gradients_of_packed_rows_are_those_of_each_row_alone(encoder, layers):
    encode = side(encoder, layers, **CONTEXT).double()
    known, vectors = history(LENGTHS), inputs(LENGTHS).double().requires_grad_()
    weights = torch.randn(sum(LENGTHS), DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (together,) = torch.autograd.grad((encode(vectors, known) * weights).sum(), vectors)
    for row in range(len(LENGTHS)):
        own = known.rows.row_P == row
        alone = vectors[own].detach().requires_grad_()
        (gradient,) = torch.autograd.grad((encode(alone, row_of(known, row)) * weights[own]).sum(), alone)
        torch.testing.assert_close(gradient, together[own])


def test_the_mean_is_the_mean_of_the_items_so_far():
    vectors = torch.arange(24.0).view(6, 4)
    users = side("mean", dim=4)(vectors, history([2, 1, 3]))
    wanted = [vectors[0], vectors[:2].mean(0), vectors[2], vectors[3], vectors[3:5].mean(0), vectors[3:].mean(0)]
    torch.testing.assert_close(users, torch.stack(wanted))


@pytest.mark.parametrize("network", ["gru", "lstm"])
def test_recurrent_networks_are_torchs_own_on_a_padded_batch(network):
    encode, vectors = side(network, layers=2), inputs([4, 4])
    states, _ = encode.encoder.network(vectors.view(2, 4, DIM).transpose(0, 1))
    wanted = encode.encoder.project(states.transpose(0, 1)).reshape(8, DIM)
    torch.testing.assert_close(encode(vectors, history([4, 4])), wanted)


def test_the_transformer_is_torchs_own_layer_on_a_padded_batch():
    encode, vectors = side("transformer", heads=2), inputs([5, 5])
    layer = encode.encoder.layers[0]
    wanted = torch.nn.TransformerEncoderLayer(
        DIM, 2, 4 * DIM, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    names = {
        "self_attn.in_proj_": layer.query_key_value,
        "self_attn.out_proj.": layer.attended,
        "linear1.": layer.wide,
        "linear2.": layer.narrow,
        "norm1.": layer.attention_norm,
        "norm2.": layer.forward_norm,
    }
    state = {f"{name}{key}": value for name, part in names.items() for key, value in part.state_dict().items()}
    wanted.load_state_dict(state)
    stream = vectors.view(2, 5, DIM) * DIM**0.5 + encode.encoder.places[:5]
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
    users = encode.encoder.norm(wanted.train()(stream, src_mask=mask, is_causal=True)).view(10, DIM)
    torch.testing.assert_close(encode(vectors, history([5, 5])), users, atol=1e-5, rtol=1e-4)


def test_the_order_of_events_matters_to_all_but_the_mean():
    vectors = inputs([3])
    for encoder, matters in (("mean", False), ("gru", True), ("lstm", True), ("transformer", True)):
        encode = side(encoder)
        last = [encode(vectors[order], history([3]))[-1] for order in ([0, 1, 2], [1, 0, 2])]
        assert torch.allclose(*last, atol=1e-6) != matters


def test_gaps_fall_into_buckets_that_double():
    minute, year = 60, 365 * 86400
    gaps = torch.tensor([0, 0, 59, minute, 2 * minute - 1, 2 * minute, 60 * minute, year, 40 * year])
    places = torch.tensor([0, 1, 1, 1, 1, 1, 1, 1, 1])
    assert gap_buckets(gaps, places).tolist() == [0, 1, 1, 2, 2, 3, 7, 21, GAP_BUCKETS - 1]


@pytest.mark.parametrize("what", ["event_types", "time_gaps"])
def test_event_types_and_gaps_are_told_apart_where_asked_for(what):
    known, vectors = history([3]), inputs([3])
    other = History(known.rows, known.event_types_P + 1, known.gaps_P * 100)
    for asked in (False, True):
        encode = side("mean", **{what: asked})
        assert torch.allclose(encode(vectors, known)[2], encode(vectors, other)[2]) != asked


def test_a_table_of_users_says_the_same_at_all_places_and_knows_whom_it_was_trained_on():
    encode = side("id")
    users = encode(inputs([2, 3]), history([2, 3]))
    assert torch.equal(users[0], users[1])
    assert torch.equal(users[2], users[4])
    assert not torch.allclose(users[0], users[2])
    lengths = torch.ones(5, dtype=torch.int64)
    assert encode.known(torch.tensor([0, 1, 2, 3, 999]), lengths).tolist() == [False, True, True, False, False]
    assert encode.known(None, lengths).tolist() == [False] * 5


@pytest.mark.parametrize("network", ["gru", "lstm"])
def test_gradients_of_recurrent_networks_are_right_in_double_precision(network):
    encode, vectors = side(network, layers=2).double(), inputs([3, 1, 2]).double().requires_grad_()
    parameters = list(encode.encoder.network.parameters())

    def users(values: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return encode(values, history([3, 1, 2]))

    assert torch.autograd.gradcheck(users, (vectors, *parameters))


@every_encoder
@pytest.mark.parametrize("context", [{}, CONTEXT], ids=["items", "items and context"])
@pytest.mark.parametrize("few_rows", [0, len(LENGTHS)])
def test_the_vector_after_the_last_position_is_the_last_of_all(monkeypatch, encoder, layers, context, few_rows):
    monkeypatch.setattr(recurrent, "FEW_ROWS", few_rows)
    encode, known = side(encoder, layers, **context).eval(), history(LENGTHS)
    table = torch.randn(6, DIM, generator=torch.Generator().manual_seed(4))
    tokens = torch.randint(1, 6, (sum(LENGTHS),), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        every = encode(table[tokens], known)
        last = encode.last(tokens, table, known)
    ends = torch.tensor(LENGTHS).cumsum(0) - 1
    torch.testing.assert_close(last, every[ends], atol=1e-6, rtol=1e-5)
