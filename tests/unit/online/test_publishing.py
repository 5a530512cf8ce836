"""From published tables to the online store."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.online import publishing
from recsys_spark.online.__main__ import main
from recsys_spark.online.live_model import LiveModel
from recsys_spark.online.sqlite_store import SqliteStore
from recsys_spark.online.store import ListRow, Publication, StoredEvent, StoreError
from recsys_spark.pipeline.online import publish_online
from recsys_spark.pipeline.runner import Runner
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from tests.unit.online.published_shop import AS_OF, HISTORIES, NoRegistry, Shop, list_rows, version_of, write_model

FLOAT = 0.100000001490116119384765625
"""0.1 in single precision, as the table holds it."""


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_the_store_holds_what_the_tables_say(shop: Shop) -> None:
    directory = shop.lists()
    store = shop.store()
    done = shop.publish(store)
    told = store.publication()
    assert done.publication == told
    assert told is not None
    assert (done.new, done.users, told.number, told.as_of, told.k, told.repeats) == (True, 3, 1, AS_OF, 2, "allow")
    assert told.model == version_of(directory / "model")
    assert told.event_weights == {"purchase": 1.0, "view": 0.25}
    found = store.users(["anna", "ben", "carl", "dora"])
    assert list(found) == ["anna", "ben", "carl"]
    anna = found["anna"]
    assert anna.history == tuple(
        StoredEvent(f"#00000000{n}", item, "purchase", 1.0, AS_OF - 86400 * (3 - n))
        for n, item in enumerate(("ale", "bread", "ale"))
    )
    assert anna.user_index == 1
    assert anna.list is not None
    assert anna.list.rows == (
        ListRow(1, "ale", FLOAT, "because 1", {"repurchase": FLOAT}),
        ListRow(2, "bread", FLOAT / 2, "because 2", {"repurchase": FLOAT / 2}),
    )
    kinds = {user: (state.list.kind, state.stale) if state.list else None for user, state in found.items()}
    assert kinds == {"anna": ("personal", False), "ben": ("personal", False), "carl": ("popular", False)}


def test_the_model_is_kept_for_those_who_serve(shop: Shop) -> None:
    directory = shop.lists()
    done = shop.publish(shop.store())
    (directory / "model" / MANIFEST).unlink()
    assert LiveModel.load(done.publication).known("ale")


def test_the_same_lists_are_not_published_twice(shop: Shop) -> None:
    shop.lists()
    store = shop.store()
    first = shop.publish(store)
    again = shop.publish(store)
    assert (again.new, again.users, again.publication) == (False, 0, first.publication)
    shop.lists()  # a run that changed nothing
    assert not shop.publish(store).new
    shop.lists("another")
    assert (shop.publish(store).publication.number, shop.publish(store).new) == (2, False)


def test_histories_are_cut_to_the_newest_events(shop: Shop) -> None:
    shop.lists()
    shop.config = Config.model_validate({**shop.config.model_dump(), "online": {"max_history": 2}})
    store = shop.store()
    shop.publish(store)
    anna = store.users(["anna"])["anna"]
    assert ([one.item_id for one in anna.history], anna.dropped, anna.stale) == (["bread", "ale"], 1, False)


def test_tables_are_read_in_portions(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.lists()
    monkeypatch.setattr(publishing, "ROWS_AT_ONCE", 8)  # one row of histories, and lists that end within a portion
    store = shop.store()
    shop.publish(store)
    found = store.users(list(HISTORIES))
    assert {user: (state.events, len(state.list.rows)) for user, state in found.items() if state.list} == {
        "anna": (3, 2),
        "ben": (1, 2),
        "carl": (0, 2),
    }


def test_a_champion_under_the_rules_of_the_day_is_the_one_that_serves(shop: Shop) -> None:
    directory = shop.lists()
    write_model(directory / "own")
    served = directory / "served"
    (directory / "own" / "model").rename(served)
    content = json.loads((served / MANIFEST).read_text())
    (served / MANIFEST).write_text(json.dumps({**content, "rules": "of the day"}))
    done = shop.publish(shop.store())
    assert done.publication.model == version_of(directory / "model")
    assert done.publication.manifest == file_sha256(served / MANIFEST)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rank": 3}, "rows of user 'anna' are not in order"),
        ({"user_id": "ben"}, "rows of user 'anna' are not in order"),
        ({"model_version": "other"}, "holds lists of other, not of recsys-fused-"),
    ],
)
def test_lists_that_are_not_as_the_job_writes_them_are_refused(shop: Shop, change: dict[str, Any], reason: str) -> None:
    rows = list_rows(shop.model_version({}))
    rows[0] |= change
    shop.lists(rows=rows)
    store = shop.store()
    with pytest.raises(UserError, match=reason):
        shop.publish(store)
    assert store.publication() is None
    assert store.users(["anna"]) == {}


def test_models_of_publications_long_gone_are_removed(shop: Shop) -> None:
    store = shop.store()
    folder = Path(shop.workspace.root) / "online" / "models"
    (folder / ".half a copy").mkdir(parents=True)
    (folder / "0123456789abcdef").mkdir()
    shop.lists()
    done = shop.publish(store)
    assert [str(path) for path in folder.iterdir()] == [done.publication.model_path]


def test_the_command_publishes_and_tells(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_spark.tracking.runs.Tracker", lambda config, root: NoRegistry())
    shop.lists()
    config = tmp_path / "shop.json"
    config.write_text(shop.config.model_dump_json(exclude_none=True))
    common = ["--config", str(config)]
    assert main(["status", *common]) == 0
    assert "nothing was published; run" in capsys.readouterr().out
    assert main(["publish", *common]) == 0
    assert capsys.readouterr().out.endswith("loaded with 3 users\n")
    assert main(["publish", *common, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] is False
    assert main(["show", "anna", *common]) == 0
    assert "2024-01-09 00:00:00 purchase ale" in capsys.readouterr().out
    assert main(["show", "dora", *common]) == 2
    assert "knows nothing of this user" in capsys.readouterr().err
    assert main(["status", *common, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["publication"]["number"] == 1
    assert main(["expire", *common]) == 0


def test_without_lists_there_is_nothing_to_publish(shop: Shop) -> None:
    with pytest.raises(UserError, match="nothing published by fuse_recommendations"):
        shop.publish(shop.store())


def test_a_job_tells_what_became_of_its_lists(shop: Shop) -> None:
    shop.lists()
    runner = cast(Runner, SimpleNamespace(config=shop.config, workspace=shop.workspace, tracker=NoRegistry()))
    assert publish_online(runner) == {"online": {"publication": 1, "new": True, "users": 3}}
    assert publish_online(runner) == {"online": {"publication": 1, "new": False, "users": 0}}


def test_a_job_whose_store_cannot_be_opened_says_so_in_one_line(shop: Shop, tmp_path: Path) -> None:
    shop.lists()
    online = {"store": f"unix://{tmp_path}/no-server"}
    config = Config.model_validate({**shop.config.model_dump(), "online": online})
    runner = cast(Runner, SimpleNamespace(config=config, workspace=shop.workspace, tracker=NoRegistry()))
    with pytest.raises(UserError, match=r"published, run python -m recsys_spark\.online publish later"):
        publish_online(runner)


def test_a_store_that_is_lost_on_the_way_is_a_fault(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: SqliteStore, publication: Publication, users: object) -> None:
        raise StoreError("online store: the connection broke")

    shop.lists()
    monkeypatch.setattr(SqliteStore, "publish", lost)
    runner = cast(Runner, SimpleNamespace(config=shop.config, workspace=shop.workspace, tracker=NoRegistry()))
    with pytest.raises(StoreError, match=r"broke; the tables are published, run python -m recsys_spark\.online"):
        publish_online(runner)
