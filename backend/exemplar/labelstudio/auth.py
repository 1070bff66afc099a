"""The two credentials of Label Studio behind one httpx.Auth: legacy token and personal access token.

Either is given to Label Studio's own origin alone, whatever address a request has.
"""

import threading
from collections.abc import Generator

import httpx

from exemplar.errors import CredentialsError, LabelStudioError
from exemplar.hosts.origin import origin
from exemplar.labelstudio.reading import mapping, parse, text


def authentication(url: str, api_key: str) -> httpx.Auth:
    """Return the authentication for a key; a personal access token is known by its being a JWT."""
    return PersonalAccessToken(url, api_key) if api_key.count(".") == 2 else LegacyToken(url, api_key)


class LegacyToken(httpx.Auth):
    """``Authorization: Token …``, off by default in organisations since Label Studio 1.17."""

    def __init__(self, url: str, api_key: str) -> None:
        self._origin = origin(url)
        self._header = f"Token {api_key}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign a request to Label Studio's own origin, and no other."""
        if origin(request.url) == self._origin:
            request.headers["Authorization"] = self._header
        yield request


class PersonalAccessToken(httpx.Auth):
    """A JWT refresh token, exchanged for short-lived ``Authorization: Bearer …`` tokens."""

    def __init__(self, url: str, api_key: str) -> None:
        self._origin = origin(url)
        self._refresh_url = f"{url}/api/token/refresh"
        self._api_key = api_key
        self._access = ""
        self._lock = threading.Lock()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign a request to Label Studio's own origin; a token that is refused is renewed once."""
        if origin(request.url) != self._origin:
            yield request
            return
        used = self._access
        if not used:
            used = yield from self._renewed(used)
        request.headers["Authorization"] = f"Bearer {used}"
        response = yield request
        if response.status_code == 401:  # access tokens live for some minutes only
            used = yield from self._renewed(used)
            request.headers["Authorization"] = f"Bearer {used}"
            yield request

    def _renewed(self, used: str) -> Generator[httpx.Request, httpx.Response, str]:
        """Exchange the key for a new access token, unless another thread has done so meanwhile."""
        with self._lock:
            if self._access == used:
                response = yield httpx.Request("POST", self._refresh_url, json={"refresh": self._api_key})
                response.read()
                if response.status_code not in (200, 400, 401, 403):
                    raise LabelStudioError(
                        f"{self._refresh_url} answered with status {response.status_code}: "
                        "is LABEL_STUDIO_URL Label Studio's address?"
                    )
                if response.status_code != 200:
                    raise CredentialsError(
                        f"Label Studio refused LABEL_STUDIO_API_KEY, a personal access token, with status "
                        f"{response.status_code}: create a new one under Account & Settings ▸ Personal Access Token"
                    )
                self._access = self._access_in(response.content)
            return self._access

    def _access_in(self, content: bytes) -> str:
        try:
            access = text(mapping(parse(content)).get("access"))
        except ValueError:
            access = None
        if not access:
            raise LabelStudioError(f"{self._refresh_url} answered without a token: is LABEL_STUDIO_URL right?")
        return access
