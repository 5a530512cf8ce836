"""Rows of a log as the bytes of its files: csv, json lines or Parquet, with the broken values and lines in them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.log_dirt import KINDS, DirtyRows
from bench.log_model import DAY, STEPS, LogSpec, Market

COLUMNS = ("event_time", "user_id", "item_id", "event_type", "quantity", "price", "order_id")
NUMBERS = ("quantity", "price")


class Texts:
    """The rows of a shard as columns of text, in the order in which they arrive."""

    def __init__(self, spec: LogSpec, market: Market, shard: int, rows: DirtyRows) -> None:
        arrival = rows.events.time_E + rows.delay_E
        order = np.argsort(arrival, kind="stable")
        self._events, self._kind_E = rows.events.take(order), rows.kind_E[order]
        days = np.minimum(arrival[order] // DAY, spec.days - 1)  # a copy may come seconds after the last midnight
        self.cuts = np.searchsorted(days, np.arange(spec.days + 1))
        """Where each day's rows start."""
        self._market = market
        self.columns = {
            "event_time": self._times(spec),
            "user_id": self._users(spec, shard, rows.test_users),
            "item_id": self._items(),
            "event_type": self._types(),
            "quantity": self._quantities(),
            "price": self._prices(),
            "order_id": self._orders(),
        }
        """Text of each column; empty where there is none."""

    def broken(self, name: str) -> np.ndarray:
        """The rows that are spoilt in this way."""
        return np.flatnonzero(self._kind_E == KINDS.index(name))

    def _spoilt(self, texts: pa.Array, name: str, spoil: Callable[[str], str]) -> pa.Array:
        rows = self.broken(name)
        if not len(rows):
            return texts
        mask = np.zeros(len(texts), dtype=bool)
        mask[rows] = True
        return pc.replace_with_mask(
            texts, pa.array(mask), pa.array([spoil(text) for text in texts.take(rows).to_pylist()])
        )

    def _times(self, spec: LogSpec) -> pa.Array:
        texts = pa.array(spec.start_seconds + self._events.time_E, pa.timestamp("s")).cast(pa.string())
        texts = self._spoilt(texts, "bad_time", lambda text: text.replace("-", "/13-", 1))
        texts = self._spoilt(texts, "future_time", lambda text: "2093" + text[4:])
        return self._spoilt(texts, "ancient_time", lambda text: "1971" + text[4:])

    def _users(self, spec: LogSpec, shard: int, test_users: np.ndarray) -> pa.Array:
        first, last = spec.share(spec.num_users, shard)
        customers = np.where(np.isin(np.arange(first, last), test_users), "test_u", "u")
        robots = np.unique(self._events.user_E[self._events.user_E >= spec.num_users])
        numbers = np.concatenate([np.arange(first, last), robots]) + 1
        prefixes = np.concatenate([customers, np.full(len(robots), "u")])
        padded = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, "0")
        names = pc.binary_join_element_wise(pa.array(prefixes), padded, "")
        places = np.where(
            self._events.user_E < spec.num_users,
            self._events.user_E - first,
            last - first + np.searchsorted(robots, self._events.user_E),
        )
        return self._spoilt(names.take(places), "missing_user", lambda text: "")

    def _items(self) -> pa.Array:
        padded = pc.utf8_lpad(pa.array(self._market.number_I).cast(pa.string()), 7, "0")
        texts = pc.binary_join_element_wise("I", padded, "").take(self._events.item_E)
        texts = self._spoilt(texts, "item_spelling", misspelled)
        texts = self._spoilt(texts, "bad_bytes", lambda text: f"{text[:3]}\ufffd{text[3:]}")
        return self._spoilt(texts, "missing_item", lambda text: "")

    def _types(self) -> pa.Array:
        texts = pa.array(STEPS).take(self._events.step_E)
        return self._spoilt(texts, "unknown_type", lambda text: "wishlist")

    def _quantities(self) -> pa.Array:
        low = min(int(self._events.quantity_E.min(initial=0)), 0)
        high = int(self._events.quantity_E.max(initial=0))
        names = pa.array(["" if number == 0 else str(number) for number in range(low, high + 1)])
        texts = names.take(self._events.quantity_E - low)
        return self._spoilt(texts, "absurd_quantity", lambda text: "1000000")

    def _prices(self) -> pa.Array:
        prices = self._market.price(self._events.item_E, self._events.time_E // DAY)
        in_cents = self.broken("price_in_cents")
        prices[in_cents] = np.round(prices[in_cents] * 100)
        return self._spoilt(pa.array(prices).cast(pa.string()), "bad_price", lambda text: "twelve")

    def _orders(self) -> pa.Array:
        known = self._events.order_E >= 0
        orders, places = np.unique(self._events.order_E[known], return_inverse=True)
        names = pc.binary_join_element_wise("o", pa.array(orders).cast(pa.string()), "")
        all_places = np.full(len(known), len(orders))
        all_places[known] = places
        return pa.concat_arrays([names, pa.array([""], pa.string())]).take(all_places)


def lines(texts: Texts, format_: str) -> pa.Array:
    """The rows as whole lines, csv or json; some are cut off, some have an open quote or bytes of no encoding."""
    parts: list[pa.Array | str] = []
    for place, name in enumerate(COLUMNS):
        column = texts.columns[name]
        if format_ == "csv":
            parts += [*([","] if place else []), column]
            continue
        quote = '"'
        if name in NUMBERS:
            quote = ""
            column = pc.if_else(
                pc.equal(column, ""), "null", pc.if_else(pc.equal(column, "twelve"), '"twelve"', column)
            )
        start = "{" if place == 0 else f"{quote_of(COLUMNS[place - 1])},"
        parts += [f'{start}"{name}":{quote}', column]
    parts.append("\n" if format_ == "csv" else '"}\n')
    whole = pc.binary_join_element_wise(*parts, "").cast(pa.binary())
    broken: dict[int, bytes] = {}
    for row in texts.broken("cut_line"):
        text = whole[row].as_py()
        broken[row] = text[: len(text) // 3] + b"\n"
    for row in texts.broken("broken_quote"):
        text = whole[row].as_py()
        broken[row] = b'"' + text if format_ == "csv" else text.replace(b'":', b":", 1)
    for row in texts.broken("bad_bytes"):
        broken[row] = whole[row].as_py().replace("\ufffd".encode(), b"\xff\xfe")
    if not broken:
        return whole
    mask = np.zeros(len(whole), dtype=bool)
    mask[list(broken)] = True
    return pc.replace_with_mask(whole, pa.array(mask), pa.array([broken[row] for row in sorted(broken)], pa.binary()))


def misspelled(item: str) -> str:
    """The same item in another spelling: small letters, blanks around, or a blank within."""
    return (item.lower(), f" {item} ", f"{item[0]} {item[1:]}")[int(item[-1]) % 3]


def quote_of(name: str) -> str:
    """What ends a column's value in JSON."""
    return "" if name in NUMBERS else '"'


def day_files(texts: Texts, format_: str, zipped: bool) -> list[bytes]:
    """The content of the file of each day; empty where no row arrived."""
    if format_ == "parquet":
        table = pa.table(
            {name: pc.if_else(pc.equal(column, ""), None, column) for name, column in texts.columns.items()}
        )
        return [_parquet(table.slice(start, stop - start)) for start, stop in _spans(texts)]
    whole = lines(texts, format_)
    header = (",".join(COLUMNS) + "\n").encode() if format_ == "csv" else b""
    files = []
    for start, stop in _spans(texts):
        content = header + _bytes(whole.slice(start, stop - start)) if stop > start else b""
        files.append(gzip.compress(content, 1, mtime=0) if zipped and content else content)
    return files


def _spans(texts: Texts) -> list[tuple[int, int]]:
    return list(zip(texts.cuts[:-1].tolist(), texts.cuts[1:].tolist(), strict=True))


def _bytes(whole: pa.Array) -> bytes:
    """The lines one after the other: as they lie in memory."""
    offsets = np.frombuffer(whole.buffers()[1], dtype=np.int32)[whole.offset : whole.offset + len(whole) + 1]
    content: bytes = whole.buffers()[2][int(offsets[0]) : int(offsets[-1])].to_pybytes()
    return content


def _parquet(table: pa.Table) -> bytes:
    if not table.num_rows:
        return b""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="snappy")
    return buffer.getvalue()
