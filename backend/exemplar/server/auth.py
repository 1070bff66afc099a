"""Who may call which route."""

import secrets
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from exemplar.rows import SECRET_HEADER
from exemplar.settings import Settings
from exemplar.store.home import Home

_basic = HTTPBasic(auto_error=False)
Given = Annotated[HTTPBasicCredentials | None, Depends(_basic)]


def settings_of(request: Request) -> Settings:
    """Return the settings that the server was started with."""
    settings: Settings = request.app.state.settings
    return settings


def guard(request: Request, given: Given) -> None:
    """Demand the Basic credentials, if any are set."""
    if not has_password(settings_of(request), given):
        raise HTTPException(
            401,
            "Give BASIC_AUTH_USER and BASIC_AUTH_PASS (in Label Studio: the model connection's authentication)",
            {"WWW-Authenticate": "Basic"},
        )


async def guard_webhook(request: Request) -> bool:
    """Demand the Basic credentials or a project's webhook secret; return whether it was the former.

    Webhooks of Label Studio cannot give a password. The secret lets a caller say that something changed, and
    no more.
    """
    if not settings_of(request).basic_auth_pass:
        return True
    given = await _basic(request)
    if has_password(settings_of(request), given):
        return True
    secret = request.headers.get(SECRET_HEADER)
    home: Home = request.app.state.home
    if secret and any(_is_secret(secret, store.connection()) for store in home.stores()):
        return False
    guard(request, given)
    return False


def has_password(settings: Settings, given: HTTPBasicCredentials | None) -> bool:
    """Return whether the Basic credentials are right, or none are demanded."""
    if not settings.basic_auth_pass:
        return True
    if given is None:
        return False
    user = secrets.compare_digest(given.username.encode(), settings.basic_auth_user.encode())
    password = secrets.compare_digest(given.password.encode(), settings.basic_auth_pass.encode())
    return user and password


def _is_secret(secret: str, connection: object) -> bool:
    known = getattr(connection, "webhook_secret", "")
    return bool(known) and secrets.compare_digest(secret.encode(), known.encode())
