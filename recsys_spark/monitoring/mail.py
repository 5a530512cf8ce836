"""Sending a message by e-mail (SMTP). Without encryption where that is asked for, nothing is sent and no password."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage

from recsys_spark.config.alerting import Email
from recsys_spark.monitoring.delivery import DeliveryError, failure


@dataclass(frozen=True)
class Login:
    """Who sends; it never stands in a text."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(***)"


def message(server: Email, subject: str, body: str, name: str) -> EmailMessage:
    """The e-mail; `name` makes its Message-ID, so that a second one of the same message can be told."""
    mail = EmailMessage()
    mail["From"], mail["To"] = server.sender, ", ".join(server.to)
    mail["Subject"] = " ".join(subject.split())  # a line break would begin a header of its own
    mail["Message-ID"] = f"<{name}@{server.sender.partition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(body)
    return mail


def send(server: Email, mail: EmailMessage, login: Login | None, timeout_seconds: float) -> str | None:
    """Send it once, to all its addresses; how many of them were refused, in words, None where all were taken.

    Raises DeliveryError where the server did not take it. Once it did, it is sent, however the server takes leave.
    """
    try:
        with _leaving(_connected(server, timeout_seconds)) as connection:
            if login is not None:
                connection.login(login.user, login.password)
            refused = connection.send_message(mail)
    except smtplib.SMTPAuthenticationError:
        raise DeliveryError("the server refuses the user's name or password", again=False) from None
    except smtplib.SMTPNotSupportedError:
        wanted = "starttls" if server.security == "starttls" else "what is needed"
        raise DeliveryError(f"the server does not offer {wanted}, or no login", again=False) from None
    except smtplib.SMTPRecipientsRefused as error:
        again = all(400 <= code < 500 for code, _ in error.recipients.values())
        raise DeliveryError("the server refuses every address", again=again) from None
    except smtplib.SMTPResponseException as error:
        again = 400 <= error.smtp_code < 500  # by SMTP these pass
        raise DeliveryError(f"the server answered {error.smtp_code}", again=again) from None
    except smtplib.SMTPException:
        raise DeliveryError("the server broke off", again=True) from None
    except ssl.SSLCertVerificationError:
        raise DeliveryError("the server's certificate is not trusted", again=False) from None
    except OSError as error:
        raise DeliveryError(failure(error), again=True) from None
    except ValueError as error:  # such as a password that is no ASCII; its text may hold it
        raise DeliveryError(type(error).__name__, again=False) from None
    return f"sent, but the server refused {len(refused)} of {len(server.to)} addresses" if refused else None


@contextmanager
def _leaving(connection: smtplib.SMTP) -> Iterator[smtplib.SMTP]:
    """Say QUIT at the end and hear no answer: smtplib's own block raises for another than 221, though all was done."""
    try:
        yield connection
    finally:
        with suppress(smtplib.SMTPException, OSError):
            connection.quit()
        connection.close()


def _connected(server: Email, timeout_seconds: float) -> smtplib.SMTP:
    """A connection, encrypted as configured."""
    if server.security == "tls":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(server.host, server.port, timeout=timeout_seconds, context=context)
    connection = smtplib.SMTP(server.host, server.port, timeout=timeout_seconds)
    if server.security == "starttls":
        try:
            connection.starttls(context=ssl.create_default_context())
        except BaseException:
            connection.close()
            raise
    return connection
