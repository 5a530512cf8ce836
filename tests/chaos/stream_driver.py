"""The body of the stream without Spark, killed again and again.

`python -m tests.chaos.stream_driver FOLDER KILLS SEED`: children of one process take the files of `events/` in, as
Spark would hand them over: a batch's files are fixed before it is taken in, and it is noted after; one that was not
noted comes again. A child is killed by SIGKILL after a random time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from recsys_spark.config.online_learning import OnlineLearning
from recsys_spark.online.step import Learner
from recsys_spark.streaming.models import Models
from recsys_spark.streaming.taking import Rules, Taker
from recsys_spark.tables.batches import batches_of
from recsys_spark.tables.files import new_file
from tests.live_shop import judged_rows, opened

LEARNER = Learner(OnlineLearning(enabled=True, negatives=4, step_events=2, reservoir=16), ("purchase",), 20)
RULES = Rules(lateness=1e9, ahead=1e9, learner=LEARNER, half_life_days=7.0)
PORTION = 2
"""Files of a batch."""


def work(folder: Path) -> None:
    """Take in what is left."""
    store = opened(folder / "online" / "store.db")
    taker = Taker(store, batches_of(folder), Models().load, RULES)
    taker.recover()
    files = sorted((folder / "events").iterdir())
    noted = folder / "noted"
    while True:
        batch = int(noted.read_text()) if noted.exists() else 0
        portion = files[batch * PORTION : (batch + 1) * PORTION]
        if not portion:
            store.close()
            return
        lines = [json.loads(line) for file in portion for line in file.read_text().splitlines()]
        taker.take("stream", batch, lambda: judged_rows(lines))  # noqa: B023  (it is called at once)
        with new_file(noted) as file:
            file.write_text(str(batch + 1))


def main(folder: Path, kills: int, seed: int) -> int:
    """Kill so often, then let the last child end; returns how often one was killed."""
    draw = random.Random(seed)
    killed = 0
    while True:
        child = os.fork()
        if child == 0:
            work(folder)
            os._exit(0)
        if killed < kills:
            time.sleep(draw.uniform(0.02, 0.25))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert status == 0, f"a child failed: {status}"
            return killed
        killed += 1


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
