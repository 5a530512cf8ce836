"""Makes the job's inputs from the public Beauty files: events.csv and catalogue.json.

    python bench/accuracy/beauty/prepare.py --histories Beauty.txt --texts Beauty_item_text.json --out folder

The file has the order of a user's purchases but no times, so a purchase is put an hour after the one before it; the
split needs no more. The catalogue has a JSON line an item: title, brand, price, and the category path below its root.
"""

from __future__ import annotations

import argparse
import ast
import csv
import html
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.training.data import read_histories  # noqa: E402

FIRST = datetime(2014, 1, 1)


def write_events(histories: Mapping[int, Sequence[int]], path: Path) -> None:
    """A line an event: user u<number>, item i<number>, and an hour for each place in the history."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["user", "item", "time"])
        for user, items in histories.items():
            for place, item in enumerate(items):
                writer.writerow([f"u{user}", f"i{item}", (FIRST + timedelta(hours=place)).isoformat()])


def write_catalogue(texts: Path, path: Path) -> None:
    """A JSON line an item."""
    items = json.loads(texts.read_text(encoding="utf-8"))
    with path.open("w", encoding="utf-8") as file:
        for number, told in items.items():
            file.write(json.dumps({"item": f"i{number}", **described(told)}) + "\n")


def described(told: Mapping[str, str]) -> dict[str, Any]:
    """Title, brand, category and price of an item; what is empty or `Unknown` is left out."""
    if told.get("price", "").startswith("'"):  # two lines were cut at a comma of the title, so their fields are one off
        title = (told["title"] + told["sales_type"]).strip('"- ')
        told = {"title": title, "categories": told["price"], "price": told["brand"]}
    texts = {
        "title": html.unescape(told.get("title", "")).strip(),
        "brand": html.unescape(told.get("brand", "")).strip(),
        "category": " > ".join(categories(told.get("categories", ""))),
    }
    price = {"price": float(told["price"])} if told.get("price") else {}
    return {name: text for name, text in texts.items() if text not in ("", "Unknown")} | price


def categories(text: str) -> list[str]:
    """Names of a path below its root, written as Python strings; as one field of a csv file where one has a '."""
    if text.startswith('"'):
        text = next(csv.reader([text]))[0]
    return [html.unescape(name) for name in ast.literal_eval(f"[{text}]")][1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=Path, required=True, help="Beauty.txt")
    parser.add_argument("--texts", type=Path, required=True, help="Beauty_item_text.json")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_events(read_histories(arguments.histories), arguments.out / "events.csv")
    write_catalogue(arguments.texts, arguments.out / "catalogue.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
