from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.models.affinity import Affinity, Decay
from recsys_spark.models.packed import History, Rows
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.neural import NeuralRecommender
from recsys_spark.recommenders.registry import load_recommender
from tests.unit.models.steps import ITEMS, LENGTH, model

LENGTHS = [4, 0, 1, 9, 2]
COMPOSITIONS = [
    ("id", "neumf", "bce"),
    ("mean", "cosine", "in_batch"),
    ("gru", "dot", "full_softmax"),
    ("lstm", "neumf", "bpr"),
    ("transformer", "dot", "gbce"),
]
every_composition = pytest.mark.parametrize("parts", COMPOSITIONS, ids="-".join)


def recommender(parts: tuple[str, ...]) -> NeuralRecommender:
    changes = {} if parts[0] == "id" else {"event_types": True, "time_gaps": True}
    made = model(*parts, **changes)
    with torch.no_grad():
        made.item_bias.weight.normal_(generator=torch.Generator().manual_seed(4))
        if parts[0] == "id":
            made.user_side.encoder.seen[:5] = True
    return NeuralRecommender("planted", made.composition, made.eval().history_scorer())


def batch() -> UserBatch:
    generator, events = torch.Generator().manual_seed(5), sum(LENGTHS)
    return UserBatch(
        items=torch.randint(ITEMS, (events,), generator=generator),
        event_types=torch.randint(6, (events,), generator=generator),
        weights=torch.ones(events),
        ages=torch.rand(events, generator=generator).sort(descending=True).values * 100,
        offsets=torch.tensor([0, *LENGTHS]).cumsum(0),
        user_index=torch.tensor([1, 2, 0, 4, 77]),
    )


@every_composition
def test_a_user_scores_the_same_in_a_batch_and_alone_at_all_items_and_at_some(parts):
    made, users = recommender(parts), batch()
    together = made.score(users)
    some = torch.tensor([[3, 0, 3]] * users.size)
    torch.testing.assert_close(made.score_items(users, some), together.scores.gather(1, some), atol=1e-5, rtol=1e-4)
    for row in range(users.size):
        alone = made.score(users.rows(row, row + 1))
        assert bool(alone.can_score) == bool(together.can_score[row])
        torch.testing.assert_close(alone.scores[0], together.scores[row], atol=1e-5, rtol=1e-4)


def test_users_without_history_cannot_be_scored_and_a_table_knows_those_it_was_trained_on():
    assert recommender(("gru", "dot", "full_softmax")).score(batch()).can_score.tolist() == [
        True,
        False,
        True,
        True,
        True,
    ]
    table = recommender(("id", "neumf", "bce"))
    assert table.score(batch()).can_score.tolist() == [True, True, False, True, False]
    assert not table.score(replace(batch(), user_index=None)).can_score.any()


@every_composition
def test_saved_and_loaded_it_scores_the_same(parts, tmp_path):
    vocabulary = tmp_path / "vocabulary.parquet"
    pq.write_table(pa.table({"code": list(range(ITEMS))}), vocabulary)
    made = recommender(parts)
    made.save(tmp_path / "bundle", vocabulary)
    loaded = load_recommender(tmp_path / "bundle")
    assert torch.equal(loaded.score(batch()).scores, made.score(batch()).scores)


def test_a_bundle_of_other_networks_is_refused_in_one_line(tmp_path, monkeypatch):
    vocabulary = tmp_path / "vocabulary.parquet"
    pq.write_table(pa.table({"code": list(range(ITEMS))}), vocabulary)
    recommender(("gru", "dot", "full_softmax")).save(tmp_path / "bundle", vocabulary)
    monkeypatch.setattr(
        "recsys_spark.recommenders.neural.UserSide", lambda made: model("lstm", layers=2, dim=made.dim).user_side
    )
    with pytest.raises(UserError, match="another version"):
        load_recommender(tmp_path / "bundle")


def test_the_last_events_and_the_days_between_them_are_what_the_encoder_sees():
    made, users = recommender(("transformer", "dot", "gbce")), batch()
    start = int(users.offsets[4]) - LENGTH  # of the nine events of user 3 it sees the last six
    index = torch.arange(start, start + LENGTH)
    gaps = torch.cat((torch.zeros(1), (users.ages[index[:-1]] - users.ages[index[1:]]) * 86400))
    history = History(Rows(torch.tensor([LENGTH])), users.event_types[index], gaps)
    scorer = made._scorer
    wanted = scorer.matrix(scorer.users(users.items[index] + 1, history))[0]
    torch.testing.assert_close(made.score(users).scores[3], wanted, atol=1e-5, rtol=1e-4)


def test_where_nothing_is_left_out_the_evidence_is_the_item_of_the_history_that_is_most_alike():
    made, users = recommender(("mean", "dot", "full_softmax")), batch()
    made.left_out = 0
    own = torch.stack([users.items[:3]] * users.size)
    evidence = made.evidence(users, own)
    assert evidence.items[0].tolist() == users.items[:3].tolist()
    assert evidence.items[1].tolist() == [-1] * 3
    assert evidence.shares is None


def test_the_evidence_is_of_the_items_met_last_the_one_whose_leaving_out_lowers_the_score_most():
    made, users = recommender(("mean", "dot", "full_softmax")), batch()
    made.left_out = 2
    items = torch.arange(3).expand(users.size, -1)
    evidence, scores = made.evidence(users, items), made.score_items(users, items)
    rows = users.rows(0, 1)
    last = list(dict.fromkeys(reversed(rows.items.tolist())))[:2]

    def rest(code):
        keep = rows.items != code
        parts = (part[keep] for part in (rows.items, rows.event_types, rows.weights, rows.ages))
        return made.score_items(UserBatch(*parts, torch.tensor([0, int(keep.sum())])), items[:1])[0]

    falls = torch.stack([scores[0] - rest(code) for code in last])
    for place in range(3):
        largest, best = falls[:, place].max(0)
        assert evidence.items[0, place] == (last[best] if largest > 0 else -1)
        if largest > 0:
            torch.testing.assert_close(evidence.shares[0, place], largest / scores[0, place].abs())
    assert evidence.items[1].tolist() == [-1] * 3  # has no history
    assert evidence.items[2].unique().tolist() == [users.items[4].item()]  # has one item: what else could it be
    assert evidence.shares[2].tolist() == [1.0] * 3


def affinity() -> Affinity:
    codes = torch.arange(ITEMS)[:, None] % 3
    shares = torch.tensor([0.2, 0.3, 0.5])
    return Affinity(("category",), codes, (shares,), torch.tensor([1.5]), Decay(2.0, 30.0))


@every_composition
def test_an_affinity_adds_what_the_whole_history_says_of_an_items_kind(parts, tmp_path):
    plain, users, beside = recommender(parts), batch(), affinity()
    made = plain.with_affinity(beside)
    rise = beside.table(users.items, users.ages, users.users, users.size)[:, torch.arange(ITEMS) % 3]
    result = made.score(users)
    wanted = plain.score(users).scores + rise * result.can_score[:, None]
    torch.testing.assert_close(result.scores, wanted, atol=1e-5, rtol=1e-4)
    some = torch.tensor([[3, 0, 3]] * users.size)
    torch.testing.assert_close(made.score_items(users, some), wanted.gather(1, some), atol=1e-5, rtol=1e-4)
    form = made.form(users)
    torch.testing.assert_close(form.matrix_BI, wanted, atol=1e-5, rtol=1e-4)
    mean, deviation = form.of(torch.tensor([3])).mean_and_deviation()
    torch.testing.assert_close(mean[0, 0], wanted[3].mean(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(deviation[0, 0], wanted[3].std(correction=0), atol=1e-4, rtol=1e-4)
    vocabulary = tmp_path / "vocabulary.parquet"
    pq.write_table(pa.table({"code": list(range(ITEMS))}), vocabulary)
    made.save(tmp_path / "bundle", vocabulary)
    assert torch.equal(load_recommender(tmp_path / "bundle").score(users).scores, result.scores)


def test_an_affinity_sees_events_that_the_encoder_does_not():
    made, users = recommender(("gru", "dot", "full_softmax")).with_affinity(affinity()), batch()
    first = int(users.offsets[3])  # of user 3's nine events the encoder sees six
    changed = replace(users, items=users.items.index_fill(0, torch.tensor([first]), (int(users.items[first]) + 1) % 3))
    assert not torch.equal(made.score(changed).scores[3], made.score(users).scores[3])
    plain = made.with_affinity(None)
    assert torch.equal(plain.score(changed).scores[3], plain.score(users).scores[3])
