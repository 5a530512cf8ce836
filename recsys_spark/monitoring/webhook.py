"""Posting a message to a webhook. Its URL is a secret: whoever knows it may post, so no error ever holds it."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from recsys_spark.monitoring.delivery import DeliveryError, failure

TRY_AGAIN = (408, 425, 429)
"""Refusals that pass; so do all faults of the server (5xx)."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is a refusal: it could lead the message anywhere."""

    def redirect_request(self, *arguments: object, **named: object) -> None:
        return None


def post(url: str, body: bytes, key: str, timeout_seconds: float) -> None:
    """POST `body` (JSON) to `url` once; `key` goes as Idempotency-Key, the same for each try of one message.

    Any answer 2xx is success; the answer's text is not read. Raises DeliveryError.
    """
    _check(url)
    headers = {"Content-Type": "application/json", "User-Agent": "recsys_spark", "Idempotency-Key": key}
    try:
        request = urllib.request.Request(url, data=body, method="POST", headers=headers)
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_seconds):
            return
    except urllib.error.HTTPError as error:
        error.close()
        again = error.code >= 500 or error.code in TRY_AGAIN
        raise DeliveryError(f"the server answered {error.code}", again=again) from None
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DeliveryError("the server's certificate is not trusted", again=False) from None
        raise DeliveryError(failure(reason) if isinstance(reason, OSError) else "not sent", again=True) from None
    except OSError as error:
        raise DeliveryError(failure(error), again=True) from None
    except (ValueError, http.client.HTTPException) as error:
        # Their texts may hold the URL, or what the server said.
        raise DeliveryError(type(error).__name__, again=isinstance(error, http.client.BadStatusLine)) from None


def _check(url: str) -> None:
    """Refuse what is no address of a web server, such as file:///etc/passwd."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise DeliveryError("its value is not a URL that begins with https:// or http://", again=False)
