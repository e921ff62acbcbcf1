"""Checks on requests to the judges' server: its own host names, and forms from its own pages."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers

BODY = 10_000  # largest size of a form, bytes
SAFE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Under 'no-referrer' browsers send "Origin: null" with the page's own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{1,5})?")


def refusal(method: str, headers: Headers, names: Collection[str]) -> tuple[HTTPStatus, str] | None:
    """Status and reason of a refused request; None for an accepted one.

    Args:
        method: of HTTP.
        headers: of the request.
        names: host names of the server, in lower case, besides numeric addresses, which no other site can own.

    Reference:
        DNS rebinding, https://doi.org/10.1145/1315245.1315298; the Origin header against forged requests,
        https://doi.org/10.1145/1455770.1455782; Fetch metadata, https://www.w3.org/TR/fetch-metadata/.
    """
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not _own(hosts[0].lower(), names):
        return HTTPStatus.BAD_REQUEST, (
            "The page is not served under this host name. Open the address that you were given; who started the page "
            "can permit the name with --name."
        )
    if method == "POST" and not _from_here(headers, hosts[0].lower()):
        return HTTPStatus.FORBIDDEN, "This was sent from another site. Open the address that you were given."
    length = headers.get("content-length", "0")
    limit = BODY if method == "POST" else 0
    if not re.fullmatch("[0-9]{1,9}", length) or int(length) > limit or (limit == 0 and "transfer-encoding" in headers):
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"More was sent than the {limit} bytes that are read."
    return None


def _own(host: str, names: Collection[str]) -> bool:
    """Whether a Host header is a numeric address or one of the names."""
    if (match := _HOST.fullmatch(host)) is None:
        return False
    try:
        ipaddress.ip_address(match["six"] or match["name"])
    except ValueError:
        return match["name"] in names
    return True


def _from_here(headers: Headers, host: str) -> bool:
    """Whether a page of this server sent the request, or a program that is not a browser."""
    sites = headers.getlist("sec-fetch-site")
    origins = [origin.lower().partition("://")[2] for origin in headers.getlist("origin")]
    return all(site in ("same-origin", "none") for site in sites) and all(origin == host for origin in origins)
