"""The stacked fusion: what it learns that no weighted sum can, and that it serves what it was trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys_spark.fusion import stacked as stacked_module
from recsys_spark.fusion.blend import Resources, blend
from recsys_spark.fusion.blended import Blend
from recsys_spark.fusion.candidates import Candidates
from recsys_spark.fusion.features import feature_names
from recsys_spark.fusion.item_columns import ItemColumns
from recsys_spark.fusion.ranking_table import RankingTable
from recsys_spark.fusion.search import TEMPERATURES, search_weights
from recsys_spark.fusion.settings import FusionSettings, Stack, average
from recsys_spark.fusion.stack_fit import FittedStack, StackSettings, _folds, _train, fit_stack
from recsys_spark.fusion.stacked import CandidateFeatures, FeatureMaker
from recsys_spark.fusion.topk import stable_topk
from recsys_spark.fusion.trees import Trees
from recsys_spark.recommenders.batch import UserBatch
from tests.stacking import PURCHASE, Written, batch_of, plain_columns

USERS, ITEMS, K = 160, 20, 5
NAMES = ("a", "b")
TARGETS = torch.tensor([place == PURCHASE for place in range(6)])


class Planted:
    """Users who buy every day follow signal a, those who buy rarely follow b: two weights are wrong for half of them.

    Two items are relevant for each user, the best two by the signal that the user follows.
    """

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        signals = random.normal(size=(2, USERS, ITEMS)).astype(np.float32)
        daily = np.arange(USERS) % 2 == 0
        self.batch = batch_of(
            [
                [(int(item), 40.5 - (place if daily[user] else 9 * place)) for place, item in enumerate(drawn[:4])]
                for user, drawn in enumerate(random.integers(0, ITEMS, size=(USERS, 4)))
            ]
        )
        self.made = {name: Written(name, torch.from_numpy(signal)) for name, signal in zip(NAMES, signals, strict=True)}
        followed = np.where(daily[:, None], signals[0], signals[1])
        self.relevant = followed >= np.sort(followed, axis=1)[:, -2:-1]
        self.signals = signals

    def features(self, batch: UserBatch, depth: int = ITEMS) -> CandidateFeatures:
        maker = FeatureMaker(
            NAMES, depth, plain_columns(ITEMS), TARGETS[batch.event_types], batch, dict.fromkeys(NAMES)
        )
        for name, recommender in self.made.items():
            maker.take(name, recommender.form(batch))
        return maker.made(self.made, batch)

    def table(self) -> RankingTable:
        found = self.features(self.batch)
        assert found.retrieved.present_BC.all()
        flat = self.relevant.ravel()
        return RankingTable(
            names=feature_names(NAMES),
            features=found.features_NF.numpy(),
            lengths=np.full(USERS, ITEMS),
            label=flat,
            relevant=flat,
            seen=np.zeros(flat.shape, dtype=bool),
            relevant_count=self.relevant.sum(axis=1),
            relevant_seen=np.zeros(USERS, dtype=np.int64),
            rivals={"allow": np.zeros(USERS), "drop": np.zeros(USERS)},
            people=np.arange(USERS),
            moments=np.zeros(USERS, dtype=np.int64),
        )

    def best_weighted_ndcg(self) -> float:
        scores = np.stack(list(self.signals), axis=2)
        mean, deviation = scores.mean(axis=1), scores.std(axis=1)
        standard = (scores - mean[:, None]) / deviation[:, None]
        nobody = np.zeros((USERS, ITEMS), dtype=bool)
        return search_weights(
            Candidates(
                names=NAMES,
                scores=scores,
                present=~nobody,
                seen=nobody,
                relevant=self.relevant,
                relevant_count=self.relevant.sum(axis=1),
                relevant_seen=np.zeros(USERS, dtype=np.int64),
                mean=mean,
                deviation=deviation,
                log_sum_exp=np.stack([np.log(np.exp(standard / t).sum(axis=1)) for t in TEMPERATURES], axis=2),
                can_score=np.ones((USERS, 2), dtype=bool),
            ),
            "allow",
            K,
            0.0,
        ).ndcg


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


def test_scores_that_are_kept_are_those_that_are_asked_for(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = planted.features(planted.batch, 5)
    monkeypatch.setattr(stacked_module, "KEPT_BYTES", 0)
    asked = planted.features(planted.batch, 5)
    assert torch.equal(kept.retrieved.items_BC, asked.retrieved.items_BC)
    torch.testing.assert_close(kept.features_NF, asked.features_NF, equal_nan=True)


SETTINGS = StackSettings(num_trees=30, learning_rate=0.3, num_leaves=8, min_rows_in_leaf=10, folds=2, l2=1.0)
QUICK = replace(SETTINGS, num_trees=10)


@pytest.fixture(scope="module")
def fitted(planted: Planted) -> FittedStack:
    found = fit_stack(planted.table(), K, SETTINGS, seed=3)
    assert found is not None
    return found


def stacked(fitted: FittedStack, depth: int = ITEMS) -> FusionSettings:
    return replace(average(NAMES), method="stacked", stack=Stack(depth, "x.trees.txt", fitted.trees))


def blended(planted: Planted, setting: FusionSettings, batch: UserBatch, columns: ItemColumns | None = None) -> Blend:
    resources = Resources(TARGETS, columns or plain_columns(ITEMS))
    return blend(planted.made, [setting], batch, None, None, resources)[0]


def test_trees_find_an_interaction_that_no_weighted_sum_can_hold(planted: Planted, fitted: FittedStack) -> None:
    weighted = planted.best_weighted_ndcg()
    assert weighted < 0.8
    assert fitted.held_out.mean() > weighted + 0.1


def test_training_twice_makes_the_same_trees(planted: Planted) -> None:
    first, second = (fit_stack(planted.table(), K, QUICK, seed=3) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.trees == second.trees
    assert first.held_out.tolist() == second.held_out.tolist()


def test_where_few_trees_are_best_boosters_of_other_seeds_are_added_up(planted: Planted) -> None:
    table = planted.table()
    settings = replace(SETTINGS, num_trees=35, learning_rate=1.0, feature_share=0.5)
    found = fit_stack(table, K, settings, seed=3)
    assert found is not None
    assert (found.num_trees, found.num_boosters) == (10, 3)  # of a rate of 1 the first trees are the best
    labelled = np.bincount(table.users, table.label) > 0
    alone = [Trees(_train(table, labelled, K, settings, seed, 10).model_to_string()) for seed in (3, 4, 5)]
    rows = torch.from_numpy(table.features[:100])
    apart = [trees.scores(rows).numpy() for trees in alone]
    assert not np.array_equal(apart[0], apart[1])
    np.testing.assert_allclose(found.trees.scores(rows).numpy(), np.sum(apart, axis=0), atol=1e-5)
    shares = np.sum([trees.contributions(rows).numpy() for trees in alone], axis=0)
    np.testing.assert_allclose(found.trees.contributions(rows).numpy(), shares, atol=1e-9)
    assert found.trees.features == alone[0].features
    assert sum(found.importance.values()) == pytest.approx(1)


def test_too_few_users_with_a_label_are_not_trained_on(planted: Planted) -> None:
    table = planted.table()
    label = table.label & (table.users < 20)
    assert fit_stack(replace(table, label=label), K, SETTINGS, seed=3) is None


def test_held_out_users_are_ranked_by_trees_that_never_saw_them(planted: Planted) -> None:
    """With labels drawn by lot, what a user is ranked by cannot know his own: NDCG stays that of chance."""
    table = planted.table()
    random = np.random.default_rng(5)
    label = np.concatenate([random.permutation(np.arange(ITEMS) < 2) for _ in range(USERS)])
    found = fit_stack(replace(table, label=label, relevant=label), K, QUICK, seed=3)
    assert found is not None
    chance = np.mean([table.ndcg(random.normal(size=len(label)), K).mean() for _ in range(5)])
    assert found.held_out.mean() < chance + 0.08


def test_serving_makes_the_rows_that_were_trained_on(planted: Planted) -> None:
    table = planted.table()
    for user in (0, 1, 7):
        alone = planted.features(planted.batch.rows(user, user + 1)).features_NF.numpy()
        np.testing.assert_array_equal(alone, table.features[user * ITEMS : (user + 1) * ITEMS])


@pytest.mark.parametrize("depth", [3, ITEMS])
def test_blocks_of_users_do_not_change_scores(planted: Planted, fitted: FittedStack, depth: int) -> None:
    whole = blended(planted, stacked(fitted, depth), planted.batch).fused
    for user in (0, 5, USERS - 1):
        alone = blended(planted, stacked(fitted, depth), planted.batch.rows(user, user + 1)).fused
        assert torch.equal(alone[0], whole[user])


def test_only_candidates_have_scores(planted: Planted, fitted: FittedStack) -> None:
    batch = planted.batch.rows(0, 3)
    seen = {user: set(batch.items[batch.users == user].tolist()) for user in range(3)}
    fused = blended(planted, stacked(fitted, 2), batch).fused
    for user in range(3):
        expected: set[int] = set()
        for table in (planted.made["a"].table, planted.made["b"].table):
            order = torch.argsort(table[user], descending=True).tolist()
            expected |= {*order[:2], *[item for item in order if item not in seen[user]][:2]}
        assert set(torch.nonzero(torch.isfinite(fused[user])).flatten().tolist()) == expected


def test_parts_add_up_to_the_score_and_are_named(planted: Planted, fitted: FittedStack) -> None:
    batch = planted.batch.rows(0, 6)
    result = blended(planted, stacked(fitted), batch)
    items = stable_topk(result.fused, 5)
    parts = result.parts(planted.made, batch, items)
    assert result.names == ("a", "b", "context")
    assert torch.allclose(parts.sum(dim=2), result.fused.gather(1, items), atol=1e-4)
    follows = parts[0::2, :, 0].abs().sum(), parts[0::2, :, 1].abs().sum()
    assert follows[0] > follows[1]  # users who buy every day follow a


def test_who_cannot_score_a_user_takes_no_part(planted: Planted, fitted: FittedStack) -> None:
    batch = planted.batch.rows(0, 2)
    mute = {**planted.made, "b": Written("b", planted.made["b"].table, torch.zeros(USERS, dtype=torch.bool))}
    [result] = blend(mute, [stacked(fitted)], batch, None, None, Resources(TARGETS, plain_columns(ITEMS)))
    items = stable_topk(result.fused, 3)
    parts = result.parts(mute, batch, items)
    assert parts[:, :, 1].isnan().all()
    assert (result.weights[:, 1] == 0).all()
    assert torch.allclose(parts.nansum(dim=2), result.fused.gather(1, items), atol=1e-4)


def test_users_whom_nobody_can_score_take_the_fallback(planted: Planted, fitted: FittedStack) -> None:
    nobody = torch.zeros(USERS, dtype=torch.bool)
    mute: dict[str, Written] = {name: Written(name, planted.made[name].table, nobody) for name in NAMES}
    popular = Written("popularity", torch.arange(float(ITEMS)).repeat(USERS, 1))
    batch = planted.batch.rows(0, 2)
    resources = Resources(TARGETS, plain_columns(ITEMS))
    [result] = blend(mute, [stacked(fitted)], batch, popular, None, resources)
    assert torch.equal(result.fused, popular.table[:2])
    assert (result.weights == 0).all()


def test_items_that_look_the_same_stand_in_the_order_of_their_codes(planted: Planted, fitted: FittedStack) -> None:
    """Ranks tell equals apart by their codes; with equal features the lower code stands first."""
    level = {name: Written(name, torch.zeros(USERS, ITEMS)) for name in NAMES}
    batch = batch_of([[]])
    [result] = blend(level, [stacked(fitted, 4)], batch, None, None, Resources(TARGETS, plain_columns(ITEMS)))
    assert set(stable_topk(result.fused, 4)[0].tolist()) == {0, 1, 2, 3}
    assert torch.isinf(result.fused[0, 4:]).all()


def table_of_two() -> RankingTable:
    """The first user has three candidates, the second two; one relevant item of the first is no candidate."""
    flags: dict[str, list[bool]] = {
        "relevant": [True, False, True, False, True],
        "seen": [True, False, False, True, False],
    }
    relevant, seen = (np.array(values) for values in flags.values())
    return RankingTable(
        names=("x",),
        features=np.arange(5, dtype=np.float32)[:, None],
        lengths=np.array([3, 2]),
        label=relevant,
        relevant=relevant,
        seen=seen,
        relevant_count=np.array([3, 1]),
        relevant_seen=np.array([1, 0]),
        rivals={"allow": np.array([0.5, 0.25]), "drop": np.array([0.1, 0.2])},
        people=np.array([0, 1]),
        moments=np.array([0, 1]),
    )


def test_ndcg_of_a_table_is_what_a_hand_computes() -> None:
    found = table_of_two().ndcg(np.array([1.0, 2.0, 2.0, 5.0, 4.0]), 2)
    second = 1 / np.log2(3)
    # The first user's order is 1, 2 (equal, later code), 0: a hit in the second place of an ideal of two.
    assert found == pytest.approx([second / (1 + second), second])


def test_under_drop_the_history_neither_competes_nor_counts() -> None:
    table = table_of_two().of_mode("drop")
    assert table.lengths.tolist() == [2, 1]
    assert table.features.ravel().tolist() == [1.0, 2.0, 4.0]
    assert table.relevant_count.tolist() == [2, 1]
    assert table.rivals["drop"].tolist() == [0.1, 0.2]


def test_trees_of_other_features_are_refused(planted: Planted, fitted: FittedStack) -> None:
    other: Tensor = planted.made["a"].table
    made = {"a": Written("a", other), "c": Written("c", other)}
    setting = replace(average(("a", "c")), method="stacked", stack=Stack(3, "x.trees.txt", fitted.trees))
    with pytest.raises(AssertionError, match="other features"):
        blend(made, [setting], planted.batch, None, None, Resources(TARGETS, plain_columns(ITEMS)))


def test_a_user_is_in_one_fold_at_all_of_his_moments() -> None:
    people = np.array([7, 7, 3, 3, 5, 9, 9, 4])
    part = _folds(people, np.array([1, 0, 0, 0, 1, 1, 1, 0], dtype=bool), 2, 5)
    assert part[0] == part[1]
    assert part[2] == part[3]
    assert part[5] == part[6]
    labelled = dict(zip(people.tolist(), part.tolist(), strict=True))
    assert sorted([labelled[7], labelled[5], labelled[9]]) in ([0, 0, 1], [0, 1, 1])  # each fold has some with a label
    assert sorted([labelled[3], labelled[4]]) == [0, 1]
