"""The fused model: fitted recommenders, how they are fused, and the lists that come out.

On disk it is a directory with `fusion.json`, a bundle for each recommender below `components/`, where business rules
are configured `rules.json` and `rules.safetensors`, where a fusion is stacked `item_columns.safetensors` and a text
file of trees, and `manifest.json`.
Legend: B users, I items, K list length, M components.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recsys_spark.errors import UserError
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.fusion.blend import Blend, Observer, Resources, blend, candidate_numbers
from recsys_spark.fusion.explain import ExplainedRows, Ranked, explain
from recsys_spark.fusion.item_columns import FILE as ITEM_COLUMNS
from recsys_spark.fusion.item_columns import ItemColumns
from recsys_spark.fusion.normalise import stable_topk
from recsys_spark.fusion.rules.compiled import ITEMS as RULE_ITEMS
from recsys_spark.fusion.rules.compiled import SETTINGS as RULES
from recsys_spark.fusion.rules.compiled import TEXT, ListRules
from recsys_spark.fusion.rules.explaining import explained, ruled_blend
from recsys_spark.fusion.rules.lists import Purchases, RuledLists, make_lists
from recsys_spark.fusion.settings import FusionSettings, Repeats, write_trees
from recsys_spark.json_files import read_object
from recsys_spark.recommenders.base import LEFT_OUT, Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import MANIFEST, bundle_id, file_sha256
from recsys_spark.recommenders.histories import RawHistory, batch_of_raw
from recsys_spark.recommenders.registry import load_recommender
from recsys_spark.recommenders.vocabulary import Vocabulary

FUSION, COMPONENTS, FORMAT = "fusion.json", "components", 1
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Names of files and components: none leads out of the directory."""
FALLBACK = "popularity"
"""The recommender that serves users whom no component of the fusion can score."""


@dataclass(frozen=True)
class Recommendation:
    """One row of a list."""

    rank: int
    item_id: str
    title: str
    score: float
    reason: str
    components: dict[str, float]
    """Each component's part of the score; they add up to it."""


class FusedModel:
    """Recommends from histories alone; batch jobs, the registry's model and services all go through here."""

    def __init__(
        self,
        recommenders: Mapping[str, Recommender],
        fallback: Recommender,
        settings: Mapping[Repeats, FusionSettings],
        vocabulary: Vocabulary,
        target_events: Sequence[str],
        event_weights: Mapping[str, float],
        default_repeats: Repeats = "allow",
        rules: ListRules | None = None,
        columns: ItemColumns | None = None,
        explain_items: int = LEFT_OUT,
    ) -> None:
        self.recommenders = recommenders
        for recommender in recommenders.values():
            recommender.left_out = explain_items
        self.rules = rules
        self.settings = settings
        self.vocabulary = vocabulary
        self.event_weights = dict(event_weights)
        self.default_repeats: Repeats = default_repeats
        self.fallback = fallback
        self._targets = torch.tensor([name in target_events for name in EVENT_TYPES])
        self.resources = Resources(self._targets, columns)

    @staticmethod
    def save(
        directory: Path,
        bundles: Mapping[str, Path],
        fallback: Path,
        settings: Mapping[Repeats, FusionSettings],
        target_events: Sequence[str],
        event_weights: Mapping[str, float],
        default_repeats: Repeats = "allow",
        rules: ListRules | None = None,
        columns: ItemColumns | None = None,
        explain_items: int = LEFT_OUT,
    ) -> None:
        """Write the new directory `directory` from bundles of one fit; the manifest comes last.

        `fallback` is the bundle of the recommender FALLBACK, which comes along whether it takes part or not.
        """
        (directory / COMPONENTS).mkdir(parents=True)
        everything = {**bundles, FALLBACK: fallback}
        for name, bundle in everything.items():
            shutil.copytree(bundle, directory / COMPONENTS / name)
        content = {
            "format": FORMAT,
            "order": list(bundles),
            "settings": {repeats: setting.to_json() for repeats, setting in settings.items()},
            "target_events": list(target_events),
            "event_weights": dict(event_weights),
            "default_repeats": default_repeats,
            "explain_items": explain_items,
        }
        (directory / FUSION).write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
        files = (FUSION, *(rules.save(directory) if rules is not None else ()))
        files += write_trees(directory, settings.values())
        if columns is not None:
            columns.save(directory / ITEM_COLUMNS)
            files += (ITEM_COLUMNS,)
        manifest = {
            "files": {name: file_sha256(directory / name) for name in files},
            "components": {name: bundle_id(directory / COMPONENTS / name) for name in everything},
        }
        (directory / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> FusedModel:
        """Read a directory, checking every hash. Raises UserError where anything is missing or changed."""
        try:
            manifest, content = read_object(directory / MANIFEST), read_object(directory / FUSION)
            _check_parts(manifest, content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"model {directory}: {MANIFEST} or {FUSION} is missing or damaged") from None
        if file_sha256(directory / FUSION) != manifest["files"][FUSION] or content.get("format") != FORMAT:
            raise UserError(f"model {directory}: {FUSION} changed since it was written, or is of another format")
        rules = _load_rules(directory, manifest["files"])
        loaded = {}
        for name in {*content["order"], FALLBACK}:
            bundle = directory / COMPONENTS / name
            if not (bundle / MANIFEST).is_file() or bundle_id(bundle) != manifest["components"].get(name):
                raise UserError(f"model {directory}: component {name} changed since it was written")
            loaded[name] = load_recommender(bundle)
        likeness = TEXT if rules is None or rules.diversity_weight == 0 else rules.diversity_vectors
        if likeness not in (TEXT, *content["order"]):
            raise UserError(f"rules.diversity.vectors: the model in {directory} has no {likeness}")
        settings: dict[Repeats, FusionSettings] = _settings(directory, content["settings"])
        stacks = [setting.stack.file for setting in settings.values() if setting.stack is not None]
        columns = _load_columns(directory, manifest["files"], stacks)
        vocabulary = Vocabulary.load(directory / COMPONENTS / content["order"][0] / "vocabulary.parquet")
        return cls(
            {name: loaded[name] for name in content["order"]},
            loaded[FALLBACK],
            settings,
            vocabulary,
            content["target_events"],
            content["event_weights"],
            content["default_repeats"],
            rules,
            columns,
            content.get("explain_items", LEFT_OUT),  # models before it have none
        )

    @property
    def num_items(self) -> int:
        """Items I of the vocabulary that all components share."""
        return self.vocabulary.size

    def users_in_block(self, block_bytes: int, tried: Sequence[FusionSettings] = ()) -> int:
        """Users whose blocks of scores fit into `block_bytes`: the sums, one component's scores and its parts.

        Besides, what the fusions over candidates keep: those of the model, one at a time, and those `tried` together.
        """
        own = max((candidate_numbers(setting, self.num_items) for setting in self.settings.values()), default=0)
        kept = own + sum(candidate_numbers(setting, self.num_items) for setting in tried)
        return max(1, block_bytes // (4 * (self.num_items * 5 + kept)))

    def blends(
        self, settings: Sequence[FusionSettings], batch: UserBatch, observe: Observer | None = None
    ) -> list[Blend]:
        """Fused scores of a block under each of the settings, in one pass over the components."""
        return blend(self.recommenders, settings, batch, self.fallback, observe, self.resources)

    def silent_score(self, settings: FusionSettings) -> float | None:
        """The silent score of the one recommender that the settings leave, if it is one and has one."""
        if len(settings.components) > 1 or settings.components[0].normaliser.method != "none":
            return None
        return self.recommenders[settings.components[0].name].silent_score

    def blend(self, batch: UserBatch, repeats: Repeats) -> Blend:
        """Fused scores of a block under the setting for `repeats`."""
        return self.blends([self.settings[repeats]], batch)[0]

    def bought(self, batch: UserBatch) -> tuple[Tensor, Tensor]:
        """Rows and codes of the histories' target events: what `drop` keeps out of the lists."""
        target = self._targets[batch.event_types]
        return batch.users[target], batch.items[target]

    def top(
        self, scores_BI: Tensor, batch: UserBatch, k: int, repeats: Repeats, silent_score: float | None = None
    ) -> Ranked:
        """The best K items of each row; under `drop` without what the user's history holds. Writes into the scores.

        Items with the `silent_score` of a recommender that stands alone are not recommended by it.
        """
        if repeats == "drop":
            scores_BI[self.bought(batch)] = -torch.inf
        items = stable_topk(scores_BI, k)
        scores = scores_BI.gather(1, items)
        listed = torch.isfinite(scores)
        if silent_score is not None:
            listed &= scores != silent_score
        return Ranked(torch.where(listed, items, -1), scores)

    def ruled(
        self, scores_BI: Tensor, batch: UserBatch, k: int, repeats: Repeats, silent_score: float | None = None
    ) -> RuledLists:
        """Lists of up to K under the business rules, which the model must have. Writes into the scores."""
        assert self.rules is not None
        vectors = self.rules.vectors_ID
        if self.rules.diversity_weight > 0 and self.rules.diversity_vectors != TEXT:
            vectors = self.recommenders[self.rules.diversity_vectors].item_vectors
        return make_lists(
            self.rules,
            scores_BI,
            batch,
            k,
            Purchases(self._targets[batch.event_types], self.bought(batch) if repeats == "drop" else None),
            silent_score,
            lambda: self.fallback.score(batch.rows(0, 1)).scores[0],
            vectors,
        )

    def recommend(self, batch: UserBatch, k: int, repeats: Repeats | None = None) -> ExplainedRows:
        """Explained lists for a block of users, as columns; under the business rules where there are some."""
        mode = repeats or self.default_repeats
        result = self.blend(batch, mode)
        if self.rules is not None:
            lists = self.ruled(result.fused, batch, k, mode, self.silent_score(self.settings[mode]))
            ranked = Ranked(lists.items, lists.scores)
            blended = ruled_blend(result, lists)
            return explained(explain(self.recommenders, self.vocabulary, self.fallback, batch, blended, ranked), lists)
        ranked = self.top(result.fused, batch, k, mode, self.silent_score(self.settings[mode]))
        return explain(self.recommenders, self.vocabulary, self.fallback, batch, result, ranked)

    def recommend_histories(
        self, histories: Sequence[RawHistory], k: int, repeats: Repeats | None = None, block_bytes: int = 1 << 28
    ) -> list[list[Recommendation]]:
        """Explained lists for raw histories, in their order."""
        batch = batch_of_raw(histories, self.vocabulary, self.event_weights)
        step = self.users_in_block(block_bytes)
        lists: list[list[Recommendation]] = [[] for _ in histories]
        for start in range(0, batch.size, step):
            rows = self.recommend(batch.rows(start, min(start + step, batch.size)), k, repeats)
            for position in range(rows.size):
                lists[start + int(rows.users[position])].append(self._recommendation(rows, position))
        return lists

    def _recommendation(self, rows: ExplainedRows, position: int) -> Recommendation:
        code = int(rows.items[position])
        components = zip(rows.names, rows.parts[position].tolist(), strict=True)
        return Recommendation(
            rank=int(rows.ranks[position]),
            item_id=self.vocabulary.item_id(code),
            title=self.vocabulary.title(code),
            score=float(rows.scores[position]),
            reason=rows.reasons[position],
            components={name: part for name, part in components if part == part},
        )


def _check_parts(manifest: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Raise ValueError, KeyError or TypeError where a part is missing, or its name leads out of the directory."""
    for name in (*manifest["components"], *manifest["files"], *content["order"]):
        if not PLAIN_NAME.fullmatch(name):
            raise ValueError(f"{name} is no name of a part")
    for part in (manifest["files"], manifest["components"], content["settings"], content["event_weights"]):
        part.items()
    if (
        FUSION not in manifest["files"]
        or not content["order"]
        or not isinstance(content["target_events"], list)
        or "default_repeats" not in content
    ):
        raise ValueError("a part is missing")


def _settings(directory: Path, told: Mapping[Repeats, Any]) -> dict[Repeats, FusionSettings]:
    try:
        return {repeats: FusionSettings.from_json(entry, directory) for repeats, entry in told.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"model {directory}: the settings in {FUSION} are damaged; fuse again") from None


def _load_columns(directory: Path, hashes: Mapping[str, str], trees: Sequence[str]) -> ItemColumns | None:
    """The columns of items, None where no fusion is stacked. Raises UserError where they or the trees were changed."""
    named = [*trees, ITEM_COLUMNS] if trees or ITEM_COLUMNS in hashes else []
    for name in named:
        if not (directory / name).is_file() or file_sha256(directory / name) != hashes.get(name):
            raise UserError(f"model {directory}: {name} changed since it was written")
    return ItemColumns.load(directory / ITEM_COLUMNS) if named else None


def _load_rules(directory: Path, hashes: Mapping[str, str]) -> ListRules | None:
    """The business rules of a model directory, None where it has none. Raises UserError where they were changed."""
    if RULES not in hashes:
        if (directory / RULES).exists():
            raise UserError(f"model {directory}: {RULES} is not of this model")
        return None
    for name in (RULES, RULE_ITEMS):
        if not (directory / name).is_file() or file_sha256(directory / name) != hashes[name]:
            raise UserError(f"model {directory}: {name} is missing or changed since it was written")
    return ListRules.load(directory)
