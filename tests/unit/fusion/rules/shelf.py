"""A shelf of twelve items for the rules' tests: the score falls from item 0 to item 11, so plain lists are 0, 1, 2, ...

Items 0 to 3 are wine, 4 to 7 cheese, 8 to 11 bread; even codes are of one brand, odd ones of another; item n costs n.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recsys_spark.config.rules import Rules
from recsys_spark.fusion.rules.compile import ItemFacts, Names, compile_rules
from recsys_spark.fusion.rules.compiled import SECONDS_A_DAY, ListRules
from recsys_spark.fusion.rules.lists import Purchases, RuledLists, make_lists
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.vocabulary import Vocabulary

ITEMS = 12
NOW = 1_700_006_400
"""2023-11-15 00:00 UTC."""
CATEGORIES = [*["WINE"] * 4, *["CHEESE"] * 4, *["BREAD"] * 4]
BRANDS = ["Own" if code % 2 == 0 else "Other" for code in range(ITEMS)]
PURCHASE, VIEW = 4, 1
VOCABULARY = Vocabulary(
    pa.table(
        {
            "item_id": [f"i{code}" for code in range(ITEMS)],
            "title": [f"Item {code}" for code in range(ITEMS)],
            "item_index": pa.array(range(1, ITEMS + 1), pa.int32()),
        }
    )
)


def compiled(new: tuple[int, ...] = (), out: tuple[str, ...] = (), **settings: Any) -> ListRules:
    """The rules of a `rules:` section; the items of `new` were first seen yesterday, all others a year ago."""
    further = {name: settings.pop(name) for name in ("intervals", "members", "vectors") if name in settings}
    ages = np.where(np.isin(np.arange(ITEMS), new), 1, 365)
    facts = ItemFacts(
        VOCABULARY,
        Names("category", CATEGORIES, sorted({*CATEGORIES, "BEER"})),
        Names("brand", BRANDS, sorted(set(BRANDS))),
        np.arange(ITEMS, dtype=np.float64),
        (NOW - ages * SECONDS_A_DAY).astype(np.int64),
        {*(f"i{code}" for code in range(ITEMS)), "tomorrow's"}.__contains__,
    )
    return compile_rules(Rules.model_validate(settings), facts, NOW, 7, out, **further)


def users(*histories: list[tuple[int, float]], index: list[int] | None = None, kind: int = PURCHASE) -> UserBatch:
    """A batch of users who had (item, days ago) events."""
    items = [item for history in histories for item, _ in history]
    lengths = [len(history) for history in histories]
    return UserBatch(
        items=torch.tensor(items, dtype=torch.int64),
        event_types=torch.full((len(items),), kind),
        weights=torch.ones(len(items)),
        ages=torch.tensor([age for history in histories for _, age in history], dtype=torch.float64),
        offsets=torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int64),
        user_index=torch.tensor(index if index is not None else range(1, len(histories) + 1), dtype=torch.int64),
    )


def falling(rows: int) -> Tensor:
    """Scores [rows, 12] of 6, 5, ..., -5."""
    return (6 - torch.arange(ITEMS, dtype=torch.float32)).expand(rows, -1).clone()


def listed(
    rules: ListRules, batch: UserBatch | None = None, k: int = 5, scores: Tensor | None = None, **given: Any
) -> RuledLists:
    """The lists of a batch, by default of one user without history."""
    batch = users([]) if batch is None else batch
    scores = falling(batch.size) if scores is None else scores
    return make_lists(
        rules,
        scores,
        batch,
        k,
        Purchases(batch.event_types == PURCHASE, given.pop("dropped", None)),
        given.pop("silent_score", None),
        given.pop("fallback", lambda: torch.arange(ITEMS, dtype=torch.float32)),
        rules.vectors_ID,
    )


def codes(lists: RuledLists, row: int = 0) -> list[int]:
    """The items of a list."""
    return [code for code in lists.items[row].tolist() if code >= 0]


def at(rules: ListRules, days: float) -> ListRules:
    """The same rules so many days later."""
    return replace(rules, as_of=NOW + int(days * SECONDS_A_DAY))
