"""Publishing by pointer: a reader sees the old version or the new one, whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys_spark.errors import UserError
from recsys_spark.tables import pointer
from recsys_spark.tables.pointer import Commit, commits, latest_commit, publish, sync_tree


def write_version(stage_directory: Path, text: str) -> Commit:
    run = stage_directory / "runs" / text
    run.mkdir(parents=True)
    for part in ("a", "b", "c"):
        (run / part).write_text(text)
    sync_tree(run)
    return publish(
        stage_directory,
        "demo",
        run,
        key=text,
        run_id=text,
        tables={},
        inputs={},
        metrics={},
        facts={"text": text},
        as_of=None,
    )


def visible(stage_directory: Path) -> str | None:
    """What a reader sees; fails if a version is not whole."""
    commit = latest_commit(stage_directory, "demo")
    if commit is None:
        return None
    texts = {commit.path(part).read_text() for part in ("a", "b", "c")}
    assert texts == {commit.facts["text"]}
    return str(commit.facts["text"])


def test_versions_are_numbered_from_one_and_the_newest_is_seen(tmp_path: Path) -> None:
    assert latest_commit(tmp_path, "demo") is None
    assert [write_version(tmp_path, text).version for text in ("old", "new")] == [1, 2]
    assert visible(tmp_path) == "new"
    assert [commit.facts["text"] for commit in commits(tmp_path, "demo")] == ["old", "new"]


# Every system call of a writer that changes what is on disk: it is killed just before and just after each of them.
STEPS = [
    ("os", "mkdir"),
    ("os", "fsync"),
    ("os", "link"),
    ("os", "unlink"),
    ("json", "dump"),
]


def _killed_writer(stage_directory: Path, module: str, name: str, call: int, after: bool) -> None:
    """Runs in a process of its own: writes "new" and dies by SIGKILL at the given call of the given function."""
    owner = {"os": os, "json": json}[module]
    original: Callable[..., object] = getattr(owner, name)
    seen = 0

    def deadly(*args: object, **kwargs: object) -> object:
        nonlocal seen
        seen += 1
        if seen == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if seen == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)
    write_version(stage_directory, "new")
    os._exit(0)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("module", "name"), STEPS)
def test_a_writer_killed_at_any_step_leaves_the_old_version_or_the_new_one_whole(
    tmp_path: Path, module: str, name: str, after: bool
) -> None:
    seen = set()
    for call in range(1, 20):
        stage_directory = tmp_path / str(call)
        write_version(stage_directory, "old")
        writer = multiprocessing.get_context("fork").Process(
            target=_killed_writer, args=(stage_directory, module, name, call, after)
        )
        writer.start()
        writer.join()
        seen.add(visible(stage_directory))
        if writer.exitcode == 0:  # the function is called less often than that: every call was tried
            break
        assert writer.exitcode == -signal.SIGKILL
        assert write_version(stage_directory, "next").version >= 2
        assert visible(stage_directory) == "next"
    else:
        pytest.fail("the writer never got through")
    assert seen <= {"old", "new"}
    assert "new" in seen


def test_two_writers_never_share_a_number(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_version, args=(tmp_path, f"writer-{n}")) for n in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [commit.version for commit in commits(tmp_path, "demo")] == list(range(1, 9))
    assert {commit.facts["text"] for commit in commits(tmp_path, "demo")} == {f"writer-{n}" for n in range(8)}


def test_a_damaged_pointer_is_refused_by_name(tmp_path: Path) -> None:
    write_version(tmp_path, "old")
    (tmp_path / "versions" / "00000002.json").write_text("{")
    with pytest.raises(UserError, match=r"00000002\.json: not a commit"):
        latest_commit(tmp_path, "demo")


def test_a_moved_workspace_still_finds_its_files(tmp_path: Path) -> None:
    write_version(tmp_path / "here", "old")
    (tmp_path / "here").rename(tmp_path / "there")
    assert visible(tmp_path / "there") == "old"


def test_the_pointer_is_never_visible_before_its_content_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    real_sync, real_link = os.fsync, os.link
    monkeypatch.setattr(pointer.os, "fsync", lambda descriptor: (order.append("fsync"), real_sync(descriptor))[1])
    monkeypatch.setattr(pointer.os, "link", lambda a, b: (order.append("link"), real_link(a, b))[1])
    write_version(tmp_path, "new")
    assert order[-2:] == ["link", "fsync"]
    assert "fsync" in order[: order.index("link")]
