"""Reasons of the sampled users' fused lists, from the very model whose lists were measured."""

from __future__ import annotations

import pyarrow as pa

from recsys_spark.evaluation.report.content import FUSED, WITH_RULES
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import Repeats
from recsys_spark.scoring.blocks import Moment, user_blocks

Reasons = dict[tuple[str, str], str]
"""(user_id, item_id) to the reason."""


def reasons_of(
    model: FusedModel, histories: pa.Table, moment: Moment, k: int, mode: Repeats, block_bytes: int
) -> dict[str, Reasons]:
    """Reasons of the lists of up to `k` items: of the fusion, and where the model has business rules, of it under them.

    `histories` are rows of the table histories; the driver scores them in blocks, as the tasks did.
    """
    rules, model.rules = model.rules, None
    found = {FUSED: _reasons(model, histories, moment, k, mode, block_bytes)}
    if rules is not None:
        model.rules = rules
        found[WITH_RULES] = _reasons(model, histories, moment, k, mode, block_bytes)
    return found


def _reasons(
    model: FusedModel, histories: pa.Table, moment: Moment, k: int, mode: Repeats, block_bytes: int
) -> Reasons:
    found: Reasons = {}
    for block in user_blocks(histories.to_batches(), model, moment, block_bytes):
        rows = model.recommend(block.batch, k, mode)
        users = block.user_ids.take(pa.array(rows.users)).to_pylist()
        items = model.vocabulary.ids_of(rows.items).to_pylist()
        found.update(zip(zip(users, items, strict=True), rows.reasons, strict=True))
    return found
