"""Where the online store is, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from recsys_spark.config.online import Online


@pytest.mark.parametrize("store", ["redis://:hunter2@host:6379/0", "rediss://user:hunter2@host/0?password=hunter2"])
def test_a_password_has_no_place_in_the_address_and_is_not_repeated(store: str) -> None:
    with pytest.raises(ValidationError) as told:
        Online(store=store)
    message = told.value.errors()[0]["msg"]
    assert "name that password_env" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("store", ["http://host", "store.db", "sqlite:store.db"])
def test_another_address_is_refused(store: str) -> None:
    with pytest.raises(ValidationError, match="must begin with one of sqlite:///, redis://"):
        Online(store=store)


def test_a_file_may_lie_anywhere_and_has_no_password() -> None:
    assert Online(store="sqlite:////home/passwords/a:b@c.db").store is not None
    with pytest.raises(ValidationError, match="SQLite has no password"):
        Online(password_env="SECRET")
