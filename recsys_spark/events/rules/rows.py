"""Row rules: reasons against a row that its own columns and the lookups give. Rules that are off cost nothing."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from pyspark.sql import Column
from pyspark.sql import functions as F

from recsys_spark.config.cleaning import Cleaning
from recsys_spark.events.rows import ARRIVAL, BAD_ENCODING, TOO_LONG
from recsys_spark.events.rules.bucket_rows import RETURN_TYPE
from recsys_spark.events.rules.content import CONTENT_REASONS
from recsys_spark.events.rules.lookups import Lookups, found
from recsys_spark.events.rules.outliers import outlier
from recsys_spark.events.rules.patterns import matches_any
from recsys_spark.events.types import EVENT_TYPES

MALFORMED, BAD_QUANTITY, BAD_PRICE = "_malformed", "_bad_quantity", "_bad_price"
REASONS = (
    "malformed_row",
    "line_too_long",
    "bad_encoding",
    "missing_user_id",
    "missing_item_id",
    "bad_event_time",
    "ancient_time",
    "future_time",
    "too_late",
    "unknown_event_type",
    "bad_quantity",
    "non_positive_quantity",
    "absurd_quantity",
    "outlier_quantity",
    "bad_price",
    "negative_price",
    "absurd_price",
    "outlier_price",
    "return",
    "test_account",
    *CONTENT_REASONS,
)
"""Built-in reasons, in the order in which a row's reasons stand; `without_<join>` and the names of `reject` follow."""


def broken_rules(columns: Collection[str], cleaning: Cleaning, lookups: Lookups) -> dict[str, Column]:
    """Reason to boolean column, for the rules that are on, over our columns and the flags that are among `columns`.

    A column may be null only where another rule's is true, so that their disjunction never is.
    """
    flags = {
        "malformed_row": MALFORMED,
        "line_too_long": TOO_LONG,
        "bad_quantity": BAD_QUANTITY,
        "bad_price": BAD_PRICE,
    }
    if cleaning.bad_encoding == "reject":
        flags["bad_encoding"] = BAD_ENCODING
    rules = {reason: found(flag) for reason, flag in flags.items() if flag in columns}
    required = {
        "missing_user_id": "user_id",
        "missing_item_id": "item_id",
        "bad_event_time": "event_time",
        "unknown_event_type": "event_type",
    }
    rules |= {reason: F.col(column).isNull() for reason, column in required.items()}
    if cleaning.unknown_types == "reject":
        known = (*EVENT_TYPES, *([] if cleaning.returns == "keep" else [RETURN_TYPE]))
        rules["unknown_event_type"] |= ~F.col("event_type").isin(*known)
    rules |= _times(ARRIVAL in columns, cleaning)
    rules |= {reason: F.coalesce(rule, F.lit(False)) for reason, rule in _numbers(cleaning).items()}
    if lookups.bounds is not None:
        rules |= {f"outlier_{kind}": outlier(kind) for kind in cleaning.outliers.kinds}
    if cleaning.returns == "reject":
        rules["return"] = F.coalesce(_is_return(), F.lit(False))
    if cleaning.test_accounts or cleaning.test_account_patterns:
        named = F.coalesce(F.col("user_id").isin(*cleaning.test_accounts), F.lit(False))
        rules["test_account"] = named | matches_any(F.col("user_id"), cleaning.test_account_patterns)
    if lookups.blocked is not None:
        rules |= {reason: found(reason) for reason in CONTENT_REASONS}
    if cleaning.forbidden_text:
        # What was searched for stands in item_id; the catalogue does not know it.
        sought = (F.col("event_type") == "search") & matches_any(F.col("item_id"), cleaning.forbidden_text)
        forbidden = F.coalesce(sought, F.lit(False))
        rules["forbidden_content"] = rules.get("forbidden_content", F.lit(False)) | forbidden
    return {reason: rules[reason] for reason in REASONS if reason in rules}


def _times(arrival_known: bool, cleaning: Cleaning) -> dict[str, Column]:
    rules = {}
    day, arrival = F.col("event_date"), F.col(ARRIVAL)
    if cleaning.earliest > date(1970, 1, 1):
        rules["ancient_time"] = day < F.lit(cleaning.earliest)
    if arrival_known:
        # Days are compared first: instants only where an event claims to be from after its day of arrival.
        future = day > arrival
        if cleaning.future_hours:
            tolerance = F.make_dt_interval(F.lit(0), F.lit(0), F.lit(0), F.lit(cleaning.future_hours * 3600))
            future = future & (F.col("event_time") >= F.date_add(arrival, 1).cast("timestamp") + tolerance)
        rules["future_time"] = future
        rules["too_late"] = F.date_diff(arrival, day) > cleaning.lateness_days
    return {reason: F.coalesce(rule, F.lit(False)) for reason, rule in rules.items()}


def _numbers(cleaning: Cleaning) -> dict[str, Column]:
    rules = {}
    quantity, price = F.col("quantity"), F.col("price")
    if cleaning.non_positive_quantity == "reject":
        rules["non_positive_quantity"] = quantity <= 0
        if cleaning.returns == "net":
            rules["non_positive_quantity"] &= ~((quantity < 0) & _is_return())
    if cleaning.max_quantity is not None:
        rules["absurd_quantity"] = F.abs(quantity) > cleaning.max_quantity
    if cleaning.negative_price == "reject":
        rules["negative_price"] = price < 0
    if cleaning.max_price is not None:
        rules["absurd_price"] = price > cleaning.max_price
    return rules


def _is_return() -> Column:
    bought_back = (F.col("event_type") == "purchase") & (F.col("quantity") < 0)
    return (F.col("event_type") == RETURN_TYPE) | bought_back
