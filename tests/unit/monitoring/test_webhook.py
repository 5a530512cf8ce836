"""A webhook gets the message once, or its sender learns why not, without the URL."""

from __future__ import annotations

import socket

import pytest

from recsys_spark.monitoring.delivery import DeliveryError, deliver
from recsys_spark.monitoring.webhook import post
from tests.receivers import webhook

SECRET = "T0KEN-that-nobody-may-see"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


def posting(url: str, tries: int = 3, timeout: float = 5.0) -> list[float]:
    """Deliver, and return the pauses that were made."""
    pauses: list[float] = []
    deliver(lambda: post(url, b'{"text": "hello"}', "key-1", timeout), tries, 2.0, pauses.append)
    return pauses


def test_what_is_posted_arrives_as_json_with_its_key() -> None:
    with webhook() as hook:
        assert posting(hook.url) == []
    assert hook.posted == [{"text": "hello"}]
    assert hook.headers[0]["Content-Type"] == "application/json"
    assert hook.headers[0]["Idempotency-Key"] == "key-1"


def test_a_servers_fault_is_tried_again_with_longer_pauses_under_the_same_key() -> None:
    with webhook() as hook:
        hook.answers = [503, 429]
        assert posting(hook.url) == [2.0, 4.0]
    assert len(hook.posted) == 3
    assert {headers["Idempotency-Key"] for headers in hook.headers} == {"key-1"}


@pytest.mark.parametrize(("code", "tries"), [(500, 3), (404, 1), (302, 1)])
def test_what_stays_refused_is_told_by_its_number_alone(code: int, tries: int) -> None:
    with webhook(f"/services/{SECRET}?token={SECRET}") as hook:
        hook.answers = [code] * 9
        with pytest.raises(DeliveryError, match=f"^the server answered {code}") as raised:
            posting(hook.url)
    assert len(hook.posted) == tries
    assert SECRET not in repr(raised.value)
    assert "127.0.0.1" not in str(raised.value)


def test_a_server_that_is_silent_is_given_up_in_time() -> None:
    with webhook() as hook:
        hook.delay = 0.5
        with pytest.raises(DeliveryError, match=r"^no answer in time \(tried once\)$"):
            posting(hook.url, tries=1, timeout=0.1)


def test_nobody_there_is_a_reason_without_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DeliveryError, match=r"^Connection refused \(tried 2 times\)$"):
        posting(f"http://127.0.0.1:{port}/{SECRET}", tries=2)


@pytest.mark.parametrize(
    "url",
    [
        f"file:///etc/{SECRET}",
        f"ftp://example.org/{SECRET}",
        SECRET,
        f"http://localhost:{SECRET}/x",
        f"http:///{SECRET}",
        f"http://local host/{SECRET}",
        f"http://127.0.0.1/{SECRET} and more",
        f"http://[::1/{SECRET}",
    ],
)
def test_what_is_no_address_of_a_web_server_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(DeliveryError) as raised:
        posting(url, tries=1, timeout=1.0)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None
