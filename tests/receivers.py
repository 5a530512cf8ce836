"""Servers that receive what is sent to people, and remember it: a webhook's, and a mail server that speaks SMTP."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any


@dataclass
class Webhook:
    """What was posted to it, and what it answers: `answers` one by one, then 200."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    posted: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    delay: float = 0.0


@contextmanager
def webhook(path: str = "/hook") -> Iterator[Webhook]:
    """A running one; redirects (3xx) lead to itself."""
    seen = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            seen.headers.append(dict(self.headers.items()))
            time.sleep(seen.delay)
            code = seen.answers.pop(0) if seen.answers else 200
            self.send_response(code)
            if 300 <= code < 400:
                self.send_header("Location", seen.url)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with _running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        seen.url = f"http://127.0.0.1:{port}{path}"
        yield seen


@dataclass
class MailServer:
    """What it received, and how it is set up."""

    port: int = 0
    certificate: Path | None = None
    """With a certificate (its key in the same file) it offers STARTTLS."""
    refused: tuple[str, ...] = ()
    """Addresses that it does not take."""
    answers: list[str] = field(default_factory=list)
    """What it says to DATA one by one, then that it goes on."""
    farewell: str = "221 bye"
    """What it says to QUIT; where it is empty, it hangs up."""
    mails: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    in_clear: list[str] = field(default_factory=list)


@contextmanager
def mail_server(seen: MailServer | None = None) -> Iterator[MailServer]:
    """A running one."""
    seen = seen or MailServer()

    class Handler(StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.encrypted = False
            self.say("220 test")
            while line := self.rfile.readline().decode().strip():
                if not self.encrypted:
                    seen.in_clear.append(line)
                verb = line.upper().partition(" ")[0]
                if verb == "QUIT":
                    return self.say(seen.farewell) if seen.farewell else None
                getattr(self, f"on_{verb.lower()}", self.on_other)(line)
            return None

        def on_ehlo(self, line: str) -> None:
            offers = ["localhost", "AUTH PLAIN"] + (["STARTTLS"] if seen.certificate and not self.encrypted else [])
            for offer in offers:
                self.say(f"250-{offer}")
            self.say("250 8BITMIME")

        def on_starttls(self, line: str) -> None:
            self.say("220 go on")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(str(seen.certificate))
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
            self.encrypted = True

        def on_auth(self, line: str) -> None:
            _, user, password = base64.b64decode(line.split()[-1]).decode().split("\0")
            seen.logins.append((user, password))
            self.say("235 welcome" if password == "right" else "535 no")

        def on_rcpt(self, line: str) -> None:
            address = line.partition("<")[2].partition(">")[0]
            if address in seen.refused:
                return self.say("550 unknown")
            seen.recipients.append(address)
            return self.say("250 ok")

        def on_data(self, line: str) -> None:
            if seen.answers:
                return self.say(seen.answers.pop(0))
            self.say("354 go on")
            lines = []
            while (received := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                lines.append(received)
            seen.mails.append("\n".join(lines))
            return self.say("250 taken")

        def on_other(self, line: str) -> None:
            self.say("250 ok")

    with _running(ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        seen.port = port
        yield seen


def certificate(folder: Path) -> Path:
    """A new one for localhost that nobody signed, with its key, in one file."""
    path = folder / "localhost.pem"
    wanted = ["-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", *wanted, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run([*command, "-keyout", str(path), "-out", str(folder / "c.pem")], check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "c.pem").read_text())
    return path


@contextmanager
def _running(server: ThreadingTCPServer) -> Iterator[int]:
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
