"""The online store on a real Redis server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from recsys_spark.errors import UserError
from recsys_spark.online.opening import open_store
from recsys_spark.online.redis_store import RedisStore
from recsys_spark.online.store import BatchCommit, StoreError
from tests import redis_server
from tests.unit.online.states import a_user, publication
from tests.unit.online.store_contract import Opener, StoreContract

NO_SERVER = redis_server.why_not()
needs_server = [pytest.mark.slow, pytest.mark.skipif(NO_SERVER is not None, reason=NO_SERVER or "")]


@pytest.fixture(scope="module")
def server() -> Iterator[redis_server.Server]:
    with redis_server.running() as server:
        yield server


@pytest.fixture
def opened(server: redis_server.Server) -> Iterator[Opener]:
    stores: list[RedisStore] = []
    prefix = f"{uuid.uuid4().hex}:"

    def open_one(**settings: object) -> RedisStore:
        stores.append(RedisStore(server.url, password=server.password, prefix=prefix, **settings))  # type: ignore[arg-type]
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


class TestRedis(StoreContract):
    """A server."""

    pytestmark = needs_server

    def test_nothing_of_older_publications_is_left(self, opened: Opener) -> None:
        store = opened()
        store.publish(publication(1), [a_user(f"u{n}") for n in range(1201)])
        store.publish(publication(2), [a_user("w", number=2)])
        assert isinstance(store, RedisStore)
        keys = {key.decode().removeprefix(store._prefix) for key in store._client.scan_iter(f"{store._prefix}*")}
        assert keys == {"serving", "models", "generations", "members:2", "user:2:w"}

    def test_a_commit_has_fewer_arguments_than_a_server_takes(self, opened: Opener) -> None:
        store = opened()
        store.publish(publication(1), [a_user()])
        assert store.commit(BatchCommit(0, 1, accepted=[f"e{n}" for n in range(1_100_000)]))
        assert store.batches() == (0,)

    def test_a_wrong_password_is_told_without_it(self, server: redis_server.Server) -> None:
        with pytest.raises(StoreError) as told:
            open_store(server.url, password="hunter2-is-wrong")
        assert "Auth" in str(told.value)
        assert "hunter2" not in str(told.value)
        open_store(server.url, password=server.password).close()


@pytest.mark.parametrize(
    "url", ["redis://:hunter2@127.0.0.1:1/0", "redis://:hunter2@host:port/0", "redis://us:hunt/hunter2@host/zero"]
)
def test_an_address_with_a_password_is_never_told(url: str) -> None:
    with pytest.raises((UserError, StoreError)) as told:
        open_store(url)
    assert "hunter2" not in str(told.value)
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__
