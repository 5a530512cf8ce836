"""An e-mail reaches its addresses, encrypted where that is asked for, or nothing is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recsys_spark.config.alerting import Email
from recsys_spark.monitoring.delivery import DeliveryError
from recsys_spark.monitoring.mail import Login, message, send
from tests.receivers import MailServer, certificate, mail_server

LOGIN = Login("shop", "right")


def server(seen: MailServer, **settings: Any) -> Email:
    given = {"host": "localhost", "port": seen.port, "security": "none", "sender": "shop@example.org", **settings}
    return Email.model_validate({"to": ["ann@example.org", "bob@example.org"], **given})


def sending(seen: MailServer, login: Login | None = None, **settings: Any) -> str | None:
    email = server(seen, **settings)
    return send(
        email, message(email, "2 alerts\r\non Sunday", "prices in cents: 2.5 €\nsee the page", "one"), login, 5.0
    )


def test_the_message_reaches_every_address() -> None:
    with mail_server() as seen:
        assert sending(seen) is None
    assert seen.recipients == ["ann@example.org", "bob@example.org"]
    (mail,) = seen.mails
    assert "Subject: 2 alerts on Sunday" in mail
    assert "Message-ID: <one@example.org>" in mail
    assert "see the page" in mail


@pytest.fixture(scope="module")
def own_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("certificate"))


def test_starttls_encrypts_before_the_password_is_said(own_certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(own_certificate))
    with mail_server(MailServer(certificate=own_certificate)) as seen:
        sending(seen, LOGIN, security="starttls")
    assert seen.logins == [("shop", "right")]
    assert len(seen.mails) == 1
    assert [line.upper().partition(" ")[0] for line in seen.in_clear] == ["EHLO", "STARTTLS"]


def test_a_server_without_starttls_gets_neither_password_nor_message() -> None:
    with mail_server() as seen, pytest.raises(DeliveryError, match="does not offer starttls"):
        sending(seen, LOGIN, security="starttls")
    assert (seen.logins, seen.mails) == ([], [])


def test_a_certificate_that_nobody_signed_is_not_trusted(own_certificate: Path) -> None:
    with (
        mail_server(MailServer(certificate=own_certificate)) as seen,
        pytest.raises(DeliveryError, match=r"^the server's certificate is not trusted$") as raised,
    ):
        sending(seen, LOGIN, security="starttls")
    assert not raised.value.again
    assert (seen.logins, seen.mails) == ([], [])


def test_a_wrong_password_is_not_told_and_not_tried_again() -> None:
    with mail_server() as seen, pytest.raises(DeliveryError, match="refuses the user's name or password") as raised:
        sending(seen, Login("shop", "wr0ng"))
    assert not raised.value.again
    assert "wr0ng" not in str(raised.value) + repr(Login("shop", "wr0ng"))


def test_a_password_that_the_protocol_cannot_carry_is_not_told() -> None:
    with mail_server() as seen, pytest.raises(DeliveryError, match=r"^UnicodeEncodeError$"):
        sending(seen, Login("shop", "pässwörd"))
    assert seen.mails == []


def test_where_an_address_is_refused_the_others_have_the_message_and_it_is_said_how_many() -> None:
    with mail_server(MailServer(refused=("bob@example.org",))) as seen:
        assert sending(seen) == "sent, but the server refused 1 of 2 addresses"
    assert len(seen.mails) == 1


@pytest.mark.parametrize("farewell", ["421 too many connections", "500 what", ""])
def test_a_message_that_was_taken_is_sent_however_the_server_takes_leave(farewell: str) -> None:
    with mail_server(MailServer(farewell=farewell)) as seen:
        assert sending(seen) is None
    assert len(seen.mails) == 1


def test_where_every_address_is_refused_nothing_was_sent() -> None:
    refused = MailServer(refused=("ann@example.org", "bob@example.org"))
    with mail_server(refused) as seen, pytest.raises(DeliveryError, match="refuses every address") as raised:
        sending(seen)
    assert (seen.mails, raised.value.again) == ([], False)


@pytest.mark.parametrize(("answer", "again"), [("451 busy", True), ("554 spam", False)])
def test_what_passes_by_the_protocol_may_be_tried_again(answer: str, again: bool) -> None:
    with (
        mail_server(MailServer(answers=[answer])) as seen,
        pytest.raises(DeliveryError, match=f"^the server answered {answer[:3]}$") as raised,
    ):
        sending(seen)
    assert raised.value.again is again
    assert seen.mails == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"user_env": "A_B"}, "user_env and password_env, or neither"),
        ({"user_env": "USER_A", "password_env": "PASSWORD_A", "host": "mail.example.org"}, "in clear"),
        ({"user_env": "USER_A", "password_env": "hunter2"}, "must be the name of an environment variable"),
        ({"to": ["ann"]}, "'ann' is not an address"),
        ({"sender": "a@b\r\nBcc: c@d"}, "is not an address"),
        ({"to": []}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        server(MailServer(port=25), **settings)
    assert "hunter" not in str(raised.value).partition("[type=")[0]
