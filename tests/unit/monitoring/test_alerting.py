"""People are told once of what is bad, by every way that is configured, and no delivery fails the job."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from recsys_spark.config.alerting import Notify
from recsys_spark.monitoring.alerting import MOST, News, counted, payload, tell
from recsys_spark.monitoring.finding import Finding, Status
from recsys_spark.monitoring.ledger import LATE_DAYS, Action, undelivered
from tests.receivers import MailServer, Webhook, mail_server, webhook
from tests.unit.monitoring.findings import DAY, earlier, finding

SECRET = "T0KEN-that-nobody-may-see"
URL = Notify(webhook_url_env="HOOK", tries=2, pause_seconds=0)
BAD = finding("alert", sentence="prices are 100 times those of the weeks before")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


def news(
    *findings: Finding, run_id: str = "run", done: tuple[str, ...] = (), day: date = DAY, at_least: Status = "alert"
) -> News:
    return News(day, findings, done, "shop", Path("/pages/monitoring.html"), run_id, at_least)


def telling(hook: Webhook, what: News, before: list[Action] | None = None, notify: Notify = URL) -> list[Action]:
    return tell(what, notify, before or [], {"HOOK": hook.url})


def test_all_findings_of_a_run_are_one_message_with_the_worst_first() -> None:
    warning = finding("warn", "events.mix", sentence="fewer views")
    with webhook() as hook:
        rows = telling(hook, news(warning, finding("ok"), BAD, done=("Publication is held up.",)))
    assert [(row.action, row.subject) for row in rows] == [("sent", "webhook")]
    (posted,) = hook.posted
    assert posted["text"].splitlines() == [
        "[shop] 1 alert, 1 warning on 2024-03-24",
        "ALERT events.price: prices are 100 times those of the weeks before",
        "WARNING events.mix: fewer views",
        "Publication is held up.",
        "Page: /pages/monitoring.html",
        "MLflow run: run",
    ]
    assert (posted["status"], posted["day"], posted["workspace"]) == ("alert", "2024-03-24", "shop")
    assert [entry["kind"] for entry in posted["findings"]] == ["events.price", "events.mix"]


def test_the_same_findings_of_a_day_are_not_told_twice_though_their_numbers_differ() -> None:
    with webhook() as hook:
        first = telling(hook, news(BAD))
        assert telling(hook, news(finding("alert", sentence="prices are 101 times"), run_id="again"), first) == []
        other = telling(hook, news(BAD, finding("alert", "events.mix")), first)
        assert len(other) == 1
        # The next day is told of, whatever was told of this one.
        assert len(tell(news(BAD, day=DAY.replace(day=25)), URL, first, {"HOOK": hook.url})) == 1
    assert len(hook.posted) == 3


def test_a_day_that_is_well_again_is_told_where_something_else_was_told_before() -> None:
    with webhook() as hook:
        assert telling(hook, news(finding("ok"))) == []
        first = telling(hook, news(BAD))
        well = telling(hook, news(finding("ok")), first)
        assert telling(hook, news(finding("ok")), [*first, *well]) == []
        assert len(telling(hook, news(BAD), [*first, *well])) == 1
    assert [post["status"] for post in hook.posted] == ["alert", "ok", "alert"]
    assert hook.posted[1]["text"].startswith("[shop] all is well again on 2024-03-24")


@pytest.mark.parametrize(("at_least", "messages"), [("alert", 0), ("warn", 1)])
def test_warnings_are_told_where_that_is_wanted(at_least: Status, messages: int) -> None:
    with webhook() as hook:
        telling(hook, news(finding("warn"), at_least=at_least))
    assert len(hook.posted) == messages


def test_a_failed_delivery_is_recorded_without_a_secret_and_tried_again_by_the_next_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "recsys_spark"), webhook(f"/{SECRET}") as hook:
        hook.answers = [500, 500]
        (failed,) = telling(hook, news(BAD))
        assert (failed.action, failed.comment) == ("not_sent", "the server answered 500 (tried 2 times)")
        (sent,) = telling(hook, news(BAD), [failed])
    assert sent.action == "sent"
    assert "webhook: the message on 2024-03-24 was not sent: the server answered 500" in caplog.text
    assert SECRET not in caplog.text + repr([failed, sent])


def late(days: int, *findings: Finding) -> News:
    day = earlier(days)
    return news(*(replace(one, measure=replace(one.measure, day=day)) for one in findings), day=day)


def unsent(days: int, way: str = "webhook", digest: str = "d") -> Action:
    return Action("not_sent", earlier(days), "", way, digest, comment="the server answered 500")


def telling_late(hook: Webhook, what: News, before: list[Action], *old: News) -> list[Action]:
    return tell(what, URL, before, {"HOOK": hook.url}, old)


def test_what_could_not_be_delivered_goes_out_with_a_run_of_a_later_day_and_only_once() -> None:
    before = [unsent(2), unsent(1)]
    with webhook() as hook:
        rows = telling_late(hook, news(finding("ok")), before, late(2, BAD), late(1, BAD))
        assert [(row.action, row.day) for row in rows] == [("sent", earlier(2)), ("sent", earlier(1))]
        assert telling_late(hook, news(finding("ok")), [*before, *rows], late(2, BAD), late(1, BAD)) == []
    assert [(posted["day"], posted["status"]) for posted in hook.posted] == [
        ("2024-03-22", "alert"),
        ("2024-03-23", "alert"),
    ]
    assert "prices are 100 times" in hook.posted[0]["text"]


def test_the_days_own_message_goes_first_and_nothing_follows_one_that_fails() -> None:
    with webhook() as hook:
        hook.answers = [404]
        (row,) = telling_late(hook, news(BAD), [unsent(1)], late(1, BAD))
        assert (row.action, row.day) == ("not_sent", DAY)
        rows = telling_late(hook, news(BAD), [unsent(1), row], late(1, BAD))
    assert [(row.action, row.day) for row in rows] == [("sent", DAY), ("sent", earlier(1))]


def test_only_messages_of_the_last_days_are_late_and_only_by_the_way_that_failed() -> None:
    old = [unsent(LATE_DAYS + 1), unsent(LATE_DAYS), unsent(3, "email"), unsent(2), unsent(-1)]
    sent = replace(unsent(2), action="sent", comment=None)
    assert undelivered([*old, sent], DAY) == [(earlier(LATE_DAYS), "webhook"), (earlier(3), "email")]
    with webhook() as hook:
        assert telling_late(hook, news(finding("ok")), old[2:3], late(3, BAD)) == []
        well = telling_late(hook, news(finding("ok")), [unsent(1)], late(1, finding("ok")))
    assert (hook.posted, well) == ([], []), "nothing was told of it, and it is well by now"


def test_addresses_that_a_server_refused_are_counted_and_the_message_is_sent() -> None:
    with mail_server(MailServer(refused=("d@e.f",))) as seen:
        email = {
            "host": "localhost",
            "port": seen.port,
            "security": "none",
            "sender": "a@b.c",
            "to": ["d@e.f", "g@h.i"],
        }
        (row,) = tell(news(BAD), Notify.model_validate({"email": email}), [], {})
    assert (row.action, row.comment) == ("sent", "sent, but the server refused 1 of 2 addresses")
    assert len(seen.mails) == 1


def test_one_way_that_fails_does_not_keep_the_other_from_telling() -> None:
    with mail_server() as seen:
        email = {"host": "localhost", "port": seen.port, "security": "none", "sender": "a@b.c", "to": ["d@e.f"]}
        notify = Notify.model_validate({"webhook_url_env": "HOOK", "email": email, "tries": 1})
        rows = tell(news(BAD), notify, [], {"HOOK": "nonsense"})
    assert [(row.subject, row.action) for row in rows] == [("webhook", "not_sent"), ("email", "sent")]
    assert "Subject: [shop] 1 alert on 2024-03-24" in seen.mails[0]


def test_whatever_goes_wrong_the_job_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("recsys_spark.monitoring.alerting.post", broken)
    (row,) = tell(news(BAD), URL, [], {"HOOK": "http://localhost/"})
    assert (row.action, row.comment) == ("not_sent", "RuntimeError")


def test_a_variable_that_is_not_set_is_told_also_on_days_that_are_well(caplog: pytest.LogCaptureFixture) -> None:
    assert tell(news(finding("ok")), URL, [], {"HOOK": " "}) == []
    assert "the environment variable HOOK is not set" in caplog.text
    (row,) = tell(news(BAD), URL, [], {})
    assert row.comment == "monitoring.notify.webhook_url_env: the environment variable HOOK is not set; export it"


def test_what_comes_from_the_data_is_no_markup_and_every_number_is_json() -> None:
    told = payload(news(finding("alert", sentence="item <!channel> & co", value=math.inf)))
    assert "item &lt;!channel&gt; &amp; co" in told["text"]
    assert told["findings"][0]["value"] is None
    json.dumps(told, allow_nan=False)


def test_a_message_stays_short_however_much_is_bad() -> None:
    many = [finding("alert", subject=str(number)) for number in range(MOST + 7)]
    assert "... and 7 more: see the page." in payload(news(*many))["text"]


def test_findings_are_counted_in_words() -> None:
    assert counted([BAD, BAD, finding("warn"), finding("ok")]) == "2 alerts, 1 warning"
    assert counted([finding("ok")]) == "all is well"
