"""The service as a person meets it: a process of its own, and its page in a browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.serving.service import SOURCE, configured, publication, publish, write_model

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
KEY = "a-key-for-this-test"
pytestmark = pytest.mark.slow


@contextmanager
def running(folder: Path, environment: dict[str, str] | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a service over a small shop, and its process."""
    publish(configured(folder), publication(write_model(folder / "model")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "shop.yaml"
    config.write_text(yaml.safe_dump({"workspace": str(folder), "source": SOURCE}), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys_spark.serving", "--config", str(config), "--set", f"serving.port={port}"],
        env={**os.environ, **(environment or {})},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait(f"http://127.0.0.1:{port}/ready", process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


def _wait(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    process.kill()
    raise AssertionError(f"the service never answered: {process.communicate()[1]}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; scripts/ensure_chromium.sh says how")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def items(page: Any) -> list[str]:
    return [card.get_attribute("data-item") for card in page.locator(".card").all()]


def test_people_see_a_list_change_with_what_they_click(browser: Any, tmp_path: Path) -> None:
    with running(tmp_path) as (address, _):
        page = browser.new_page(viewport={"width": 390, "height": 844})
        faults: list[str] = []
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{address}/")
        page.get_by_label("User").fill("anna")
        page.get_by_role("button", name="Show").click()
        assert items(page) == ["ale"]
        assert page.get_by_text("As it was stored, from 2 events").is_visible()
        page.get_by_role("button", name="Buy Ale").click()
        page.get_by_text("Made just now, from 3 events").wait_for()
        assert items(page) == ["ale", "dates", "cheese"]
        assert page.get_by_role("status").inner_text() == "Bought Ale: 2 new in the list, 0 moved."
        assert page.locator(".history li").first.inner_text().startswith("purchase Ale")
        assert page.get_by_role("img", name="Shares of the score: ").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out on a phone

        page.get_by_role("link", name="New visitor").click()
        assert page.get_by_text("Nothing yet.").is_visible()
        assert page.get_by_text("Not personal: no history is known").is_visible()
        assert items(page) == ["dates", "cheese", "bread"]
        page.get_by_role("button", name="Buy Bread").click()
        page.get_by_text("Made just now, from 1 event.").wait_for()
        assert items(page) == ["bread", "dates", "cheese"]
        assert page.locator(".card").first.locator(".moved").inner_text() == "▲ 2"
        assert faults == []


def test_with_keys_the_page_shows_users_to_those_who_have_one(browser: Any, tmp_path: Path) -> None:
    with running(tmp_path, {"RECSYS_API_KEYS": KEY}) as (address, _):
        page = browser.new_page()
        page.goto(f"{address}/?user=anna")
        page.get_by_text("give an API key").wait_for()
        assert items(page) == []
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Use").click()
        page.locator(".card").first.wait_for()
        page.get_by_role("button", name="Buy Ale").click()
        page.get_by_text("Made just now, from 3 events").wait_for()
        assert KEY not in page.url


def test_stopped_the_service_ends_in_order_and_knows_the_events_when_it_is_back(tmp_path: Path) -> None:
    event = {"event_id": "e", "user_id": "ben", "item_id": "cheese", "event_type": "purchase"}
    with running(tmp_path) as (address, process):
        body = json.dumps({"events": [event]}).encode()
        asked = urllib.request.Request(f"{address}/v1/events", body, {"Content-Type": "application/json"})
        assert json.load(urllib.request.urlopen(asked))["accepted"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
    config = configured(tmp_path)
    from tests.unit.serving.service import names, serving

    with serving(config) as client:
        assert set(names(client.get("/v1/users/ben/recommendations"))[:2]) == {"bread", "cheese"}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("serving.host=0.0.0.0", "open to everyone"),
        ("serving.port=70000", "serving.port"),
        ("online.store=redis://127.0.0.1:1/0", "online store on Redis"),
    ],
)
def test_a_service_that_cannot_be_run_so_says_why_in_one_line(tmp_path: Path, setting: str, said: str) -> None:
    config = tmp_path / "shop.yaml"
    config.write_text(yaml.safe_dump({"workspace": str(tmp_path), "source": SOURCE}), encoding="utf-8")
    command = [sys.executable, "-m", "recsys_spark.serving", "--config", str(config), "--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
