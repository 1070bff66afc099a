"""The bytes behind a task's value: a file that Label Studio serves, one on the web, or ``data:``."""

import base64
import binascii
from functools import cache
from urllib.parse import unquote_to_bytes, urlsplit

import httpx

from exemplar.errors import TaskDataError
from exemplar.labelstudio.client import Client, tls

MAX_BYTES = 64 * 2**20
# A record that is gone makes Label Studio answer 500 for its file, so does a database that is busy.
TRIES = 3


def read_file(client: Client, address: str) -> bytes:
    """Return the bytes behind an address.

    Raises
    ------
    TaskDataError
        If it cannot be had and another try would not help; the task alone is left out.
    LabelStudioDownError
        If Label Studio does not answer.
    """
    try:
        response = _inline(address) if address.startswith("data:") else _fetched(client, address)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise TaskDataError(f"{_short(address)}: {error or type(error).__name__}") from error
    if len(response) > MAX_BYTES:
        raise TaskDataError(f"{_short(address)}: {len(response)} bytes, more than {MAX_BYTES}")
    return response


def _inline(address: str) -> bytes:
    head, _, body = address.partition(",")
    try:
        return base64.b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
    except binascii.Error as error:
        raise ValueError("broken base64") from error


def _fetched(client: Client, address: str) -> bytes:
    if address.startswith(("/", client.url + "/")):
        response = _from_label_studio(client, address)
    elif urlsplit(address).scheme in ("http", "https"):
        response = _elsewhere().get(address)
    else:
        raise ValueError("expected a file that Label Studio serves, http(s) or data:")
    if response.status_code != 200:
        raise ValueError(f"status {response.status_code}")
    return response.content


def _from_label_studio(client: Client, address: str) -> httpx.Response:
    # With a path prefix (…/label-studio), uploaded files name it already.
    path = address.removeprefix(client.url).removeprefix(urlsplit(client.url).path)
    for _ in range(TRIES):
        response = client.get_file(path)
        if response.status_code != 500:
            break
    return response


@cache
def _elsewhere() -> httpx.Client:
    """Other hosts get no credentials of ours."""
    return httpx.Client(timeout=httpx.Timeout(30.0, connect=5.0), follow_redirects=True, verify=tls())


def _short(address: str) -> str:
    return address if len(address) <= 80 else address[:77] + "…"
