"""Telling people of alerts: the log always, a webhook and an e-mail where they are configured; one message a run.

Nothing here fails a job: what could not be delivered is logged and recorded, and the next runs try again, those of the
same day and those of the LATE_DAYS days after it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

from recsys_spark.config.alerting import Notify
from recsys_spark.credentials import secret_of
from recsys_spark.errors import UserError
from recsys_spark.monitoring.delivery import DeliveryError, deliver
from recsys_spark.monitoring.finding import STATUSES, Finding, Status
from recsys_spark.monitoring.ledger import Action, undelivered
from recsys_spark.monitoring.mail import Login, message, send
from recsys_spark.monitoring.webhook import post

log = logging.getLogger("recsys_spark")

MOST = 20
"""Findings that a message tells; the page has all."""
LEVELS = {"warn": logging.WARNING, "alert": logging.ERROR}
WORDS = {"alert": ("alert", "alerts"), "warn": ("warning", "warnings")}
WEBHOOK, EMAIL = "webhook", "email"


@dataclass(frozen=True)
class News:
    """What is to be told of a day."""

    day: date
    findings: Sequence[Finding]
    """All of the day."""
    done: Sequence[str]
    """What was done about them, a sentence each."""
    workspace: str
    """Its name, by which people tell shops apart."""
    page: Path | None
    run_id: str
    at_least: Status
    """What makes a message (`monitoring.notify.at_least`); one that goes out tells warnings, too."""

    @property
    def told(self) -> list[Finding]:
        """The findings that make a message, alerts first; where there are none, no message is due."""
        order = STATUSES.index
        bad = [finding for finding in self.findings if order(finding.status) >= order(self.at_least)]
        if not bad:
            return []
        rest = [finding for finding in self.findings if finding.status != "ok"]
        return sorted(rest, key=lambda finding: -order(finding.status))

    @property
    def digest(self) -> str:
        """What tells one message on this day from another: which findings there are, not their numbers.

        That of no findings is empty.
        """
        told = self.told
        if not told:
            return ""
        names = sorted((one.measure.key, one.measure.subject, one.status) for one in told)
        return hashlib.sha256(json.dumps([self.day.isoformat(), names]).encode()).hexdigest()[:16]

    @property
    def subject(self) -> str:
        """One line."""
        told = self.told
        return f"[{self.workspace}] {counted(told) if told else 'all is well again'} on {self.day}"

    @property
    def text(self) -> str:
        """The message: the findings, what was done about them, where to look."""
        told = self.told
        lines = [f"{WORDS[one.status][0].upper()} {one.measure.key}: {one.sentence}" for one in told[:MOST]]
        if len(told) > MOST:
            lines.append(f"... and {len(told) - MOST} more: see the page.")
        if not told:
            lines = [f"{self.day} was monitored again, and what was told of it before is no more."]
        where = [f"Page: {self.page}"] if self.page else []
        return "\n".join([*lines, *self.done, *where, f"MLflow run: {self.run_id}"])


Way = Callable[[News, Notify, Mapping[str, str]], str | None]
"""Sends a message once: what is to be said of it, None as a rule. Raises DeliveryError."""


def counted(findings: Sequence[Finding]) -> str:
    """`2 alerts, 1 warning`; `all is well` of none."""
    parts = []
    for status, (one, many) in WORDS.items():
        number = sum(finding.status == status for finding in findings)
        parts += [f"{number} {one if number == 1 else many}"] if number else []
    return ", ".join(parts) or "all is well"


def write_log(findings: Sequence[Finding]) -> None:
    """A line for each warning and alert."""
    for finding in findings:
        if finding.status != "ok":
            log.log(LEVELS[finding.status], "%s %s: %s", finding.status, finding.measure.key, finding.sentence)


def tell(
    news: News,
    notify: Notify,
    before: Sequence[Action],
    environment: Mapping[str, str] = os.environ,
    earlier: Sequence[News] = (),
) -> list[Action]:
    """Send what is due by each configured way; returns a row for each message that was sent or could not be.

    A way by which the newest message on this day said the same is passed over. Where all is well, nothing is sent,
    unless something else was told of the day before. After that, news of `earlier` days that could not be delivered by
    a way (`undelivered`) goes out by it, a message a day, until one fails.
    """
    for variable in _variables(notify):
        if not environment.get(variable, "").strip():
            log.warning("monitor: the environment variable %s is not set: nobody would be told of an alert", variable)
    late = undelivered(before, news.day)
    rows = []
    for name in _ways(notify):
        for one in [news, *(old for old in earlier if (old.day, name) in late)]:
            row = _told(one, name, notify, before, environment)
            rows += [row] if row else []
            if row and row.action == "not_sent":
                break  # the way does not work: each further message would wait as long for nothing
    return rows


def _told(
    news: News, name: str, notify: Notify, before: Sequence[Action], environment: Mapping[str, str]
) -> Action | None:
    """Send the message of a day by a way; the row of it, None where there is nothing new to tell."""
    digest = news.digest
    if digest == _last(before, news.day, name):
        log.info("monitor: %s: nothing new to tell of %s", name, news.day)
        return None
    way = _ways(notify)[name]
    sent, comment = _delivered(lambda: way(news, notify, environment), notify)
    if sent:
        log.info("monitor: %s: %s: %s", name, comment or "sent", news.subject)
    else:
        log.warning("monitor: %s: the message on %s was not sent: %s", name, news.day, comment)
    return Action("sent" if sent else "not_sent", news.day, "", name, digest, comment=comment, run_id=news.run_id)


def _last(before: Sequence[Action], day: date, name: str) -> str:
    """The digest of the newest message that was sent."""
    found = [row.sentence for row in before if row.action == "sent" and row.day == day and row.subject == name]
    return found[-1] if found else ""


def _delivered(send_it: Callable[[], str | None], notify: Notify) -> tuple[bool, str | None]:
    """Was a message sent, and why not, or what is to be said of it."""
    try:
        return True, deliver(send_it, notify.tries, notify.pause_seconds)
    except (DeliveryError, UserError) as error:
        return False, str(error)
    except Exception as error:  # a monitor that fails tells nobody; the error's text may hold a secret
        return False, type(error).__name__


def _ways(notify: Notify) -> dict[str, Way]:
    configured = {WEBHOOK: bool(notify.webhook_url_env), EMAIL: notify.email is not None}
    ways: dict[str, Way] = {WEBHOOK: _by_webhook, EMAIL: _by_email}
    return {name: way for name, way in ways.items() if configured[name]}


def _by_webhook(news: News, notify: Notify, environment: Mapping[str, str]) -> None:
    url = secret_of(notify.webhook_url_env or "", "monitoring.notify.webhook_url_env", environment)
    body = json.dumps(payload(news), allow_nan=False).encode()
    post(url, body, _name(news), notify.timeout_seconds)


def _by_email(news: News, notify: Notify, environment: Mapping[str, str]) -> str | None:
    server, login = notify.email, None
    assert server is not None, "a way only where it is configured"
    if server.user_env and server.password_env:
        user = secret_of(server.user_env, "monitoring.notify.email.user_env", environment)
        login = Login(user, secret_of(server.password_env, "monitoring.notify.email.password_env", environment))
    mail = message(server, news.subject, news.text, _name(news))
    return send(server, mail, login, notify.timeout_seconds)


def payload(news: News) -> dict[str, Any]:
    """The webhook's JSON; `text` is for people, and no title of an item is markup of their chat program."""
    told = news.told
    text = escape(f"{news.subject}\n{news.text}", quote=False)
    return {
        "text": text,
        "source": "recsys_spark",
        "workspace": news.workspace,
        "day": news.day.isoformat(),
        "status": told[0].status if told else "ok",
        "findings": [_plain(finding) for finding in told[:MOST]],
        "done": list(news.done),
        "page": str(news.page) if news.page else None,
        "run_id": news.run_id,
    }


def _plain(finding: Finding) -> dict[str, Any]:
    measure = finding.measure
    numbers = {"value": measure.value, "reference": measure.reference}
    finite = {name: value if value is not None and math.isfinite(value) else None for name, value in numbers.items()}
    said = {"status": finding.status, "kind": measure.key, "subject": measure.subject, "sentence": finding.sentence}
    return {**said, **finite}


def _name(news: News) -> str:
    """The same for every try of one message, and another one for another run."""
    return f"{news.day}.{news.digest or 'well'}.{news.run_id[:12]}"


def _variables(notify: Notify) -> list[str]:
    server = notify.email
    names = (notify.webhook_url_env, server and server.user_env, server and server.password_env)
    return [name for name in names if name]
