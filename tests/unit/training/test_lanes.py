from __future__ import annotations

import threading
import time

import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.training.ahead import Ahead
from recsys_spark.training.lanes import LaneReader, lane_count
from recsys_spark.training.staging import LocalFiles, is_remote


@pytest.mark.parametrize(
    ("row_groups", "batch_size", "lanes"),
    [(8, 128, [8, 8, 8, 8]), (4, 10, [2, 2, None, None]), (12, 24, [6, 6, 4, None]), (16, 64, [8, 8, 8, 8])],
)
def test_lanes_are_shared_by_any_fitting_number_of_processes(row_groups, batch_size, lanes):
    for processes, expected in zip((1, 2, 4, 8), lanes, strict=True):
        if expected is None:
            with pytest.raises(UserError, match=f"training.num_processes {processes}"):
                lane_count(row_groups, batch_size, processes)
        else:
            assert lane_count(row_groups, batch_size, processes) == expected


def read(planted, processes, cache=None, epoch=1):
    """What all processes read, a list of lanes' rows a step."""
    steps = []
    for rank in range(processes):
        files = LocalFiles(str(planted), "v", cache)
        reader = LaneReader(files, ("items", "length"), 20, 4, rank, processes, 7)
        for number, lanes in enumerate(reader.read(epoch)):
            steps += [{}] * (number + 1 - len(steps))
            steps[number] = steps[number] | {lane: batch["items"] for lane, batch in lanes.items()}
    return steps


def same(left, right):
    return len(left) == len(right) and all(
        one.keys() == two.keys() and all(torch.equal(one[lane], two[lane]) for lane in one)
        for one, two in zip(left, right, strict=True)
    )


def test_the_global_batches_do_not_depend_on_the_number_of_processes(planted):
    one = read(planted, 1)
    assert len(one) == 5
    assert [sorted(lanes) for lanes in one] == [[0, 1, 2, 3]] * 5
    assert same(one, read(planted, 2))
    assert same(one, read(planted, 4))
    assert not same(one, read(planted, 1, epoch=2))


def test_each_process_copies_its_own_files_once_and_reads_the_same(planted, tmp_path):
    files = LocalFiles(str(planted), "v", str(tmp_path))
    reader = LaneReader(files, ("items",), 20, 4, 1, 2, 7)
    next(reader.read(1))
    copies = sorted(path for path in tmp_path.rglob("*.parquet"))
    assert [path.name for path in copies] == ["part-00001.parquet", "part-00003.parquet"]
    times = [path.stat().st_mtime_ns for path in copies]
    assert same(read(planted, 2, cache=str(tmp_path)), read(planted, 2))
    assert [path.stat().st_mtime_ns for path in copies] == times
    assert not list(tmp_path.rglob(".*"))


def test_copies_that_no_training_used_for_a_day_are_removed_and_nothing_else(planted, tmp_path):
    import os

    LocalFiles(str(planted), "v", str(tmp_path))
    (ours,) = tmp_path.iterdir()
    long_ago = (time.time() - 2 * 24 * 3600,) * 2
    old, recent, not_ours = ours / "old", ours / "recent", tmp_path / "thesis"
    for path in (old, recent, not_ours):
        path.mkdir()
    os.utime(old, long_ago)
    os.utime(not_ours, long_ago)
    LocalFiles(str(planted), "v", str(tmp_path))
    assert not old.exists()
    assert recent.exists()
    assert not_ours.exists()


def test_a_network_is_told_from_a_disk_by_the_nearest_mount(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n/dev/sdb {tmp_path}/disk xfs rw 0 0\n"
    )
    assert is_remote(tmp_path / "data", mounts)
    assert not is_remote(tmp_path / "disk" / "data", mounts)
    assert not is_remote(tmp_path.parent, mounts)
    assert not is_remote(tmp_path, tmp_path / "no such file")


def test_at_most_so_many_items_are_made_ahead_in_their_order():
    made, gate = [], threading.Event()

    def items():
        for number in range(6):
            made.append(number)
            yield number
        gate.set()

    ahead = Ahead(items, 2)
    assert next(ahead) == 0
    time.sleep(0.05)
    assert made == [0, 1, 2]
    assert list(ahead) == [1, 2, 3, 4, 5]
    assert gate.is_set()
    assert list(ahead) == []


def test_an_error_of_the_thread_is_raised_where_its_item_would_have_come():
    def items():
        yield 1
        raise KeyError("broken")

    ahead = Ahead(items, 3)
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="broken"):
        next(ahead)
