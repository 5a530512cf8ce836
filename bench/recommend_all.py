"""Fused lists of all users by six recommenders, beside Spark ML, implicit and the bare matrix product, in one run.

    python bench/recommend_all.py --sizes 20000x12000 200000x50000 --write

Needs the extra `bench`. Draws a shop of each size and a fused model of real recommenders with drawn parameters, saves
and loads it as the jobs do, and makes the 100 best items of every user. The rivals take the best of one product of
ready factors, once as wide as one of our components (--width) and once as wide as all of ours that are products.
docs/benchmarks.md defines what is measured. Prints a table; --write also writes bench/results/recommend.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # implicit has threads of its own, and asks for it

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from pyspark.sql import SparkSession  # noqa: E402

from bench.measures import PeakMemory  # noqa: E402
from bench.recommending.ours import HISTORIES, InProcess, InSpark  # noqa: E402
from bench.recommending.rivals import Implicit, PlainProduct, SparkALS  # noqa: E402
from bench.recommending.shop import DENSE, MAKERS, Sizes, write_histories, write_model  # noqa: E402
from recsys_spark.config import Config  # noqa: E402
from recsys_spark.fusion.model import FusedModel  # noqa: E402
from recsys_spark.recommenders.base import LEFT_OUT  # noqa: E402
from recsys_spark.session import build_session  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "recommend.json"
SIX = ("popularity", "repurchase", "item_knn", "ease", "mfn", "gru")
"""The six of conf/base.yaml."""
Work = dict[str, Callable[[], None]]
MEMORY_BYTES = 1 << 29
"""What is read to measure the memory's speed: far more than any cache holds."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["20000x12000", "200000x50000"], metavar="USERSxITEMS")
    parser.add_argument("--models", nargs="+", choices=MAKERS, default=list(SIX))
    parser.add_argument("--width", type=int, default=128, help="dimensions of each component that is a product")
    parser.add_argument("--events", type=int, default=20, help="mean events of a history")
    parser.add_argument("--ease-items", type=int, default=12_000, help="most items that EASE covers")
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--block-mb", type=int, default=256)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--slow-pairs", type=float, default=5e8, help="user-item pairs that slow engines score at most")
    parser.add_argument("--driver-memory", default="3g")
    parser.add_argument("--scratch", type=Path, default=None, help="where the folder for models and histories is made")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    memory = PeakMemory(os.getpid())
    memory.start()
    spark = _session(arguments)
    measured = []
    for size in arguments.sizes:
        users, items = (int(number) for number in size.split("x"))
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            sizes = Sizes(users, items, arguments.width, arguments.events, arguments.ease_items)
            measured.append(measure(spark, sizes, arguments, Path(folder)))
        print(table(measured[-1]), flush=True)
    spark.stop()
    result = {"machine": _machine(arguments.threads), "peak_memory_mb": memory.stop(), "sizes": measured}
    if arguments.write:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(spark: SparkSession, sizes: Sizes, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All engines at one size. Those of one process are timed in turn, Spark's after them."""
    names, k, runs = arguments.models, arguments.k, arguments.runs
    dense = [name for name in names if name in DENSE]
    slow_users = min(sizes.users, max(1, int(arguments.slow_pairs / sizes.items)))
    histories, some_histories = folder / "histories.parquet", folder / "some_histories.parquet"
    write_histories(histories, sizes)
    write_histories(some_histories, sizes._replace(users=slow_users))
    model = write_model(folder, names, sizes)
    ours = InProcess(FusedModel.load(model), histories, arguments.block_mb << 20)
    plain = {width: PlainProduct(sizes.users, sizes.items, width) for width in _widths(sizes, len(dense))}
    work: Work = {
        "ours": lambda: ours.lists(names, k),
        "ours, products alone": lambda: ours.lists(dense, k),
    }
    for width, product in plain.items():
        rival = Implicit(product.users_UD, product.items_DI, arguments.threads)
        work[f"product {width}"] = product.product
        work[f"product {width}, top k"] = partial(product.lists, k)
        work[f"implicit {width}"] = partial(rival.lists, k)
    seconds = a_user(in_turn(work, runs), sizes.users)
    parts, dense_parts = (a_user(ours.seconds_by_part(some, k), sizes.users) for some in (names, dense))
    explained = InProcess(ours.model, some_histories, arguments.block_mb << 20)
    work = {
        "ours, explained": lambda: explained.explained(k, LEFT_OUT),
        "ours, explained, none left out": lambda: explained.explained(k, 0),
    }
    seconds |= a_user(in_turn(work, min(2, runs)), slow_users)
    whole = InSpark(spark, model, histories, arguments.block_mb << 20)
    seconds |= a_user(in_turn({"ours in Spark": lambda: whole.lists(names, k)}, runs), sizes.users)
    some = InSpark(spark, model, some_histories, arguments.block_mb << 20)
    work = {"ours in Spark, explained": lambda: some.explained(k)}
    rivals = {width: SparkALS(spark, it.users_UD[:slow_users], it.items_DI, folder) for width, it in plain.items()}
    work |= {f"Spark ML {width}": partial(rival.lists, k) for width, rival in rivals.items()}
    seconds |= a_user(in_turn(work, min(2, runs)), slow_users)
    some.free()
    whole.free()
    for als in rivals.values():
        als.free()
    return {
        **sizes._asdict(),
        "models": names,
        "k": k,
        "block_mb": arguments.block_mb,
        "slow_users": slow_users,
        "microseconds_a_user": _micro(seconds),
        "by_part": _micro(parts),
        "products_alone_by_part": _micro(dense_parts),
        "floors": floors(sizes, len(dense), seconds, dense_parts, memory_rate()),
        "ratios": ratios(seconds, list(plain)),
        "leaving_out": seconds["ours, explained"] / seconds["ours, explained, none left out"],
    }


def a_user(seconds: dict[str, float], users: int) -> dict[str, float]:
    """Seconds of one user."""
    return {name: value / users for name, value in seconds.items()}


def in_turn(work: Work, runs: int) -> dict[str, float]:
    """The least seconds of each, run one after the other, again and again."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(runs):
        for name, do in work.items():
            started = time.perf_counter()
            do()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def floors(
    sizes: Sizes, products: int, seconds: dict[str, float], dense_parts: dict[str, float], rate_of_memory: float
) -> dict[str, Any]:
    """What the arithmetic and the memory would allow, and how far above it we are. All times are of one user."""
    rate = max(2 * sizes.items * width / seconds[f"product {width}"] for width in _widths(sizes, products))
    floor = 2 * sizes.items * sizes.width * products / rate
    catalogue = sum(value for part, value in dense_parts.items() if not part.endswith(": users") and part != HISTORIES)
    ease_bytes = 4 * sizes.events * min(sizes.items, sizes.ease_items)
    return {
        "matrix_gflops": rate / 1e9,
        "memory_gb_per_second": rate_of_memory / 1e9,
        "products_floor_microseconds": 1e6 * floor,
        "ease_floor_microseconds": 1e6 * ease_bytes / rate_of_memory,
        "products_over_floor": seconds["ours, products alone"] / floor,
        "products_over_floor_from_user_vectors": catalogue / floor,
    }


def ratios(seconds: dict[str, float], widths: Sequence[int]) -> dict[str, float]:
    """Their time a user over ours: above 1 we are faster."""
    found = {}
    for width in widths:
        found[f"Spark ML {width}"] = seconds[f"Spark ML {width}"] / seconds["ours in Spark"]
        for rival in (f"implicit {width}", f"product {width}, top k"):
            found[rival] = seconds[rival] / seconds["ours"]
    return found


def memory_rate() -> float:
    """Bytes a second that a sum over a large tensor reads."""
    much = torch.ones(MEMORY_BYTES // 4)
    return MEMORY_BYTES / in_turn({"read": lambda: much.sum()}, 5)["read"]


def table(measured: dict[str, Any]) -> str:
    """The numbers of one size, to be read."""
    users = measured["users"]
    lines = [
        f"{users:,} users x {measured['items']:,} items, {len(measured['models'])} recommenders, k {measured['k']}"
    ]
    lines.append(f"{'':36}{'us a user':>12}{'s for all':>12}{'times ours':>12}")
    for name, value in measured["microseconds_a_user"].items():
        ratio = measured["ratios"].get(name)
        share = "" if "Spark ML" not in name and "explained" not in name else f"  ({measured['slow_users']:,} users)"
        shown = f"{ratio:>12.2f}" if ratio else f"{'':12}"
        lines.append(f"{name:36}{value:>12.1f}{value * users / 1e6:>12.1f}{shown}{share}")
    for title in ("by_part", "products_alone_by_part"):
        lines.append(f"{title.replace('_', ' ')}: " + ", ".join(f"{k} {v:.1f}" for k, v in measured[title].items()))
    lines.append(", ".join(f"{name} {value:.2f}" for name, value in measured["floors"].items()))
    lines.append(f"explained by leaving out, over without: {measured['leaving_out']:.2f}")
    return "\n".join(lines)


def _widths(sizes: Sizes, products: int) -> list[int]:
    """One component's, and that of all products together."""
    return list(dict.fromkeys([sizes.width, sizes.width * products]))


def _micro(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(1e6 * value, 2) for name, value in seconds.items()}


def _session(arguments: argparse.Namespace) -> SparkSession:
    source = {
        "format": "csv",
        "path": "none",
        "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
        "event_type": "view",
    }
    settings = {"master": f"local[{arguments.threads}]", "driver_memory": arguments.driver_memory}
    return build_session(Config.model_validate({"source": source, "spark": settings}), "bench recommend_all")


def _machine(threads: int) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "pyspark", "implicit")}
    return {"processor": names[0] if names else "", "cores": os.cpu_count(), "threads": threads, **versions}


if __name__ == "__main__":
    sys.exit(main())
