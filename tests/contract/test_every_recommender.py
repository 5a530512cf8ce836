"""What every recommender promises, on a planted shop whose right answers are known without it."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import single
from recsys_spark.recommenders.bundle import read_bundle
from recsys_spark.recommenders.decayed import decayed_items
from recsys_spark.recommenders.histories import RawHistory, batch_of_raw
from recsys_spark.recommenders.registry import load_recommender
from recsys_spark.recommenders.vocabulary import Vocabulary
from tests.contract.catalogue import BRANDS, CATEGORIES, WORDS
from tests.contract.planted import (
    CONFIG,
    COUNTS,
    CUT,
    DAY,
    GROUPS,
    ITEMS_A_GROUP,
    MOST_POPULAR,
    NAMES,
    NEURAL,
    USERS,
    group_of,
    item_id,
    item_index,
    never_bought,
    staple,
    train_events,
)

ITEMS = GROUPS * ITEMS_A_GROUP
EVERYONE = list(range(USERS))
BY_GROUP = ("segment_popularity", "item_knn", "content_knn", "ease", "als", *NEURAL)
"""They find the groups; segments are categories, and so are groups."""
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
every_recommender = pytest.mark.parametrize("name", NAMES)


def group_codes(shop, group):
    return set(shop.codes([(group, number) for number in range(ITEMS_A_GROUP)]))


@pytest.mark.parametrize("name", BY_GROUP)
def test_the_items_of_the_users_own_group_come_first(shop, name):
    top = shop.recommender(name).score(shop.batch(EVERYONE)).scores.topk(5).indices.tolist()
    right = [len(set(items) & group_codes(shop, group_of(user))) for user, items in enumerate(top)]
    assert sum(right) >= 0.95 * 5 * USERS


@pytest.mark.parametrize("name", BY_GROUP)
def test_among_items_the_user_never_had_those_of_its_group_come_first(shop, name):
    batch = shop.batch(EVERYONE)
    scores = shop.recommender(name).score(batch).scores
    scores[batch.users, batch.items] = -torch.inf
    top = scores.topk(2).indices.tolist()
    wanted = [set(shop.codes([(group_of(user), number) for number in never_bought(user)])) for user in EVERYONE]
    right = sum(len(set(items) & expected) for items, expected in zip(top, wanted, strict=True))
    assert right >= 0.9 * 2 * USERS


def test_popularity_is_the_decayed_count_of_each_item(shop):
    counts = dict.fromkeys(range(ITEMS), 0.0)
    for user in EVERYONE:
        for time, group, number in train_events(user):
            counts[shop.codes([(group, number)])[0]] += 0.5 ** ((CUT - time) / DAY / 7.0)  # the default half-life
    scores = shop.recommender("popularity").score(shop.batch([0, 1])).scores
    expected = torch.tensor([counts[code] for code in range(ITEMS)])
    torch.testing.assert_close(scores, expected.repeat(2, 1))
    assert scores[0].argmax().item() == shop.codes([MOST_POPULAR])[0]
    third = sorted(counts, key=counts.get, reverse=True)[2]
    evidence = shop.recommender("popularity").evidence(shop.batch([0]), torch.tensor([[third]]))
    assert evidence.detail(0, 0) == "number 3"


def test_trending_is_the_recent_count_against_what_the_long_run_foretells(shop):
    short, long = torch.zeros(ITEMS, dtype=torch.float64), torch.zeros(ITEMS, dtype=torch.float64)
    for user in EVERYONE:
        for time, group, number in train_events(user):
            code, days = shop.codes([(group, number)])[0], (CUT - time) / DAY
            short[code] += 0.5 ** (days / 7)  # the default half-lives
            long[code] += 0.5 ** (days / 60)
    recommender = shop.recommender("trending")
    scores = recommender.score(shop.batch([0, -1])).scores
    expected = torch.log((short + 10) / (long * short.sum() / long.sum() + 10))
    torch.testing.assert_close(scores, expected.float().repeat(2, 1))
    assert scores[0].argmax().item() == shop.codes([MOST_POPULAR])[0]
    falling = scores[0].argmin()[None, None]
    assert recommender.evidence(shop.batch([0]), falling).values.isnan().all()  # no reason to name
    best = scores[:1].argmax(1)[:, None]
    times = math.exp(expected[best.item()].item())
    assert recommender.evidence(shop.batch([0]), best).detail(0, 0) == f"{times:.1f} times the usual"


def test_segment_popularity_is_the_share_among_buyers_of_the_category_drawn_to_that_among_all(shop):
    counts = torch.zeros(GROUPS, ITEMS, dtype=torch.float64)
    for user in EVERYONE:
        for time, group, number in train_events(user):
            counts[group_of(user), shop.codes([(group, number)])[0]] += 0.5 ** ((CUT - time) / DAY / 7)
    among_all = counts.sum(0) / counts.sum()
    drawn = (counts + 5 * among_all) / (counts.sum(1, keepdim=True) + 5)
    recommender = shop.recommender("segment_popularity")
    scores = recommender.score(shop.batch([2, 7, -1])).scores
    torch.testing.assert_close(scores, torch.stack([drawn[2], drawn[3], among_all]).float())
    evidence = recommender.evidence(shop.batch([2, -1]), torch.zeros(2, 1, dtype=torch.int64))
    share = f"{100 * drawn[2][0].item():.2g}%"
    assert [evidence.detail(user, 0) for user in (0, 1)] == [
        f"among buyers of garden ({share} of what they choose)",
        "",
    ]


def test_content_knn_names_words_in_common(shop):
    recommender, batch = shop.recommender("content_knn"), shop.batch([3])
    evidence = recommender.evidence(batch, torch.tensor([shop.codes([(3, 0), (2, 0)])]))
    assert evidence.kind == "similar_text"
    assert set(evidence.detail(0, 0).split(", ")) <= {*WORDS[3], CATEGORIES[3], *BRANDS}
    assert evidence.detail(0, 1) == "" or set(evidence.detail(0, 1).split(", ")) <= set(BRANDS)


def test_the_named_evidence_of_als_has_the_largest_of_the_parts_that_add_up_to_the_score(shop):
    recommender, batch = shop.recommender("als"), shop.batch([5])
    item = recommender.score(batch).scores.topk(1).indices
    history = decayed_items(batch, ITEMS, recommender.half_life_days)
    vectors = recommender.vectors_ID.double()
    own = vectors[history.items]
    extra = recommender.alpha * history.weights.double()
    normal = recommender.gram_DD + (own.T * extra) @ own + recommender.reg * len(own) * torch.eye(own.shape[1])
    parts = (1 + extra) * (own @ torch.linalg.solve(normal, vectors[item.item()]))
    torch.testing.assert_close(parts.sum().float(), recommender.score_items(batch, item)[0, 0])
    assert recommender.evidence(batch, item).items.item() == history.items[parts.argmax()].item()


def test_repurchase_scores_what_the_user_had_and_nothing_else_and_its_weekly_item_first(shop):
    user = 0
    scores = shop.recommender("repurchase").score(shop.batch([user])).scores[0]
    had = {(group, number) for _, group, number in train_events(user)}
    assert set(torch.nonzero(scores).flatten().tolist()) == set(shop.codes(sorted(had)))
    assert scores.argmax().item() == shop.codes([(0, staple(user))])[0]


def test_repurchase_says_how_many_days_lie_between_purchases(shop):
    item = shop.codes([(0, staple(0))])[0]
    other = shop.codes([(2, 0)])[0]
    evidence = shop.recommender("repurchase").evidence(shop.batch([0]), torch.tensor([[item, other]]))
    assert evidence.kind == "repurchase"
    assert evidence.items.tolist() == [[item, -1]]
    assert evidence.values[0, 0].item() == 7.0
    assert evidence.values[0, 1].isnan()


@every_recommender
def test_scores_are_finite_float32_over_the_whole_vocabulary(shop, name):
    result = shop.recommender(name).score(shop.batch([3, -1, 4]))
    assert result.scores.shape == (3, ITEMS)
    assert result.scores.dtype == torch.float32
    assert result.scores.isfinite().all()
    assert result.can_score.dtype == torch.bool


@every_recommender
def test_a_batch_scores_as_its_users_do_alone(shop, name):
    recommender, batch = shop.recommender(name), shop.batch([5, -1, 0, 17, 30])
    together = recommender.score(batch)
    for row in range(batch.size):
        alone = recommender.score(batch.rows(row, row + 1))
        torch.testing.assert_close(alone.scores[0], together.scores[row], **TOLERANCE)
        assert alone.can_score[0] == together.can_score[row]


@every_recommender
def test_scores_of_given_items_are_those_of_the_whole_row(shop, name):
    recommender, batch = shop.recommender(name), shop.batch([5, -1, 0, 17])
    items = torch.randint(0, ITEMS, (4, 50), generator=torch.Generator().manual_seed(1))  # some of them twice
    expected = recommender.score(batch).scores.gather(1, items)
    torch.testing.assert_close(recommender.score_items(batch, items), expected, **TOLERANCE)


@every_recommender
def test_the_form_for_sums_holds_the_same_scores(shop, name):
    recommender = shop.recommender(name)
    for users in ([5, -1, 0, 17], [-1], []):
        batch = shop.batch(users)
        result, form = recommender.score(batch), recommender.form(batch)
        torch.testing.assert_close(form.matrix_BI, result.scores * result.can_score[:, None], **TOLERANCE)
        assert form.can_score.tolist() == result.can_score.tolist()


@every_recommender
def test_the_caller_may_write_into_scores(shop, name):
    recommender, batch = shop.recommender(name), shop.batch([5, 6])
    scores = recommender.score(batch).scores
    before = scores.clone()
    scores.fill_(-1.0)
    torch.testing.assert_close(recommender.score(batch).scores, before, rtol=0, atol=0)


@every_recommender
def test_without_a_known_item_in_the_history_only_counts_can_score(shop, name):
    # Items outside the vocabulary are left out of a batch, so a history of unknown items is an empty one.
    for users in ([-1], [-1, -1], [2, -1]):
        result = shop.recommender(name).score(shop.batch(users))
        known = [user >= 0 or name in COUNTS for user in users]
        assert result.can_score.tolist() == known
        assert name in COUNTS or not result.scores[~result.can_score].any()


@every_recommender
def test_a_batch_of_no_users_gives_no_rows(shop, name):
    result = shop.recommender(name).score(shop.batch([]))
    assert result.scores.shape == (0, ITEMS)


@every_recommender
def test_saved_and_loaded_again_it_scores_the_same(shop, name, tmp_path):
    recommender, batch = shop.recommender(name), shop.batch([5, 6, -1])
    recommender.save(tmp_path / "copy", shop.dataset(False) / "vocabulary.parquet")
    copy = load_recommender(tmp_path / "copy")
    assert (copy.name, copy.kind, copy.num_items) == (name, recommender.kind, ITEMS)
    torch.testing.assert_close(copy.score(batch).scores, recommender.score(batch).scores, rtol=0, atol=0)


@every_recommender
@pytest.mark.parametrize("file", ["config.json", "tensors.safetensors", "vocabulary.parquet"])
def test_a_changed_file_is_refused(shop, name, file, tmp_path):
    shutil.copytree(shop.bundle(name), tmp_path / "bundle")
    content = bytearray((tmp_path / "bundle" / file).read_bytes())
    content[-1] ^= 1
    (tmp_path / "bundle" / file).write_bytes(content)
    with pytest.raises(UserError, match=file):
        load_recommender(tmp_path / "bundle")


@every_recommender
def test_evidence_names_items_of_the_history(shop, name):
    recommender, batch = shop.recommender(name), shop.batch([5, -1, 6])
    items = recommender.score(batch).scores.topk(6).indices
    evidence = recommender.evidence(batch, items)
    assert evidence.items.shape == evidence.values.shape == (3, 6)
    for row in range(3):
        own = set(batch.items[batch.offsets[row] : batch.offsets[row + 1]].tolist())
        assert set(evidence.items[row].tolist()) <= own | {-1}
    assert (evidence.items[1] == -1).all()
    assert name in COUNTS or (evidence.items[0] >= 0).any()


def score_without(recommender, batch, code, item):
    """The score [1, 1] of an item for the batch's only user without all events of another."""
    keep = batch.items != code
    size = torch.tensor([0, int(keep.sum())])
    parts = (batch.items, batch.event_types, batch.weights, batch.ages)
    return recommender.score_items(type(batch)(*(part[keep] for part in parts), size), item).item()


@pytest.mark.parametrize("name", ["item_knn", "content_knn", "ease", *NEURAL])
def test_taking_the_named_evidence_out_of_the_history_lowers_the_score_the_most(shop, name):
    recommender, batch = shop.recommender(name), shop.batch([5])
    recommender.left_out = 20  # all
    item = recommender.score(batch).scores.topk(1).indices
    named = recommender.evidence(batch, item).items.item()
    recent = batch.items[-20:].unique().tolist()  # datasets.max_length events
    losses = {code: score_without(recommender, batch, code, item) for code in recent}
    assert losses[named] == pytest.approx(min(losses.values()), abs=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in COUNTS])
def test_without_the_named_evidence_the_score_falls_by_the_share_that_was_stated(shop, name):
    recommender, batch = shop.recommender(name), shop.batch([5, -1, 6])
    items = recommender.score(batch).scores.topk(4).indices
    evidence = recommender.evidence(batch, items)
    assert evidence.shares[1].isnan().all()
    stated = 0
    for row in (0, 2):
        alone = batch.rows(row, row + 1)
        for place in range(4):
            named, share = evidence.items[row, place].item(), evidence.shares[row, place].item()
            assert (named >= 0) == (share == share)
            if named >= 0:
                item = items[row, place][None, None]
                score = recommender.score_items(alone, item).item()
                rest = score_without(recommender, alone, named, item)
                assert rest == pytest.approx(score - share * abs(score), rel=1e-3, abs=1e-4)
                stated += 1
    assert stated >= 4


@pytest.mark.parametrize("name", ["als", "gru", "item_knn"])
def test_evidence_of_a_pair_does_not_depend_on_what_else_is_asked(shop, name):
    recommender, batch = shop.recommender(name), shop.batch([5, -1, 6, 7])
    items = recommender.score(batch).scores.topk(3).indices
    whole = recommender.evidence(batch, items)
    wanted = torch.tensor([[True, False, False], [True, True, True], [False, False, True], [False, False, False]])
    some = recommender.evidence(batch, items, wanted)
    assert some.items[wanted].equal(whole.items[wanted])
    torch.testing.assert_close(some.shares[wanted], whole.shares[wanted], equal_nan=True, **TOLERANCE)


@every_recommender
def test_items_that_came_after_the_fit_are_passed_over(shop, name):
    known = [item_id(2, number) for number in range(3)]
    grown = ["new-1", known[0], "new-2", known[1], known[2], "new-3"]
    recommender, vocabulary = shop.recommender(name), Vocabulary.load(shop.bundle(name) / "vocabulary.parquet")
    weights = CONFIG.datasets.event_weights
    ages = dict(zip(grown, (9.0, 8.0, 7.0, 6.0, 5.0, 4.0), strict=True))
    batches = [
        batch_of_raw([RawHistory(items, ages_days=[ages[item] for item in items])], vocabulary, weights)
        for items in (known, grown, ["new-1"], [])
    ]
    results = [recommender.score(batch) for batch in batches]
    for one, other in ((0, 1), (2, 3)):
        torch.testing.assert_close(results[one].scores, results[other].scores, rtol=0, atol=0)
        assert results[one].can_score.item() == results[other].can_score.item()
    # Global indices of new items lie beyond those of the vocabulary, or between them.
    assert vocabulary.codes_of_indices(np.array([0, item_index(2, 0), 10_000])).tolist() == [
        -1,
        shop.codes([(2, 0)])[0],
        -1,
    ]


@every_recommender
def test_a_list_without_repeats_holds_nothing_of_the_history_and_no_item_twice(shop, name, tmp_path):
    settings = {"allow": single(name), "drop": single(name)}
    FusedModel.save(
        tmp_path / "model",
        {name: shop.bundle(name)},
        shop.bundle("popularity"),
        settings,
        CONFIG.evaluation.target_events,
        CONFIG.datasets.event_weights,
    )
    model, batch = FusedModel.load(tmp_path / "model"), shop.batch([5, -1, 6])
    rows = model.recommend(batch, 10, "drop")
    for user in range(batch.size):
        own = rows.items[rows.users == user].tolist()
        had = set(batch.items[batch.offsets[user] : batch.offsets[user + 1]].tolist())
        assert len(set(own)) == len(own)
        assert not had & set(own)
        assert own or name == "repurchase"  # which has nothing to say of what the user never had
    assert len(rows.items[rows.users == 1]) == 10  # popularity stands in where the recommender is silent
    assert all(rows.reasons)


@every_recommender
def test_fitted_again_with_other_events_after_the_cut_it_is_the_same(shop, name):
    first, again = read_bundle(shop.bundle(name)), read_bundle(shop.bundle(name, poisoned=True))
    assert first.config == again.config
    assert first.tensors.keys() == again.tensors.keys()
    for key, tensor in first.tensors.items():
        assert torch.equal(tensor, again.tensors[key]), key
    assert first.vocabulary.read_bytes() == again.vocabulary.read_bytes()
