"""How /predict is passed on to the process that answers it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException

from exemplar.server.predicting import PredictElsewhere

BODY = b'{"tasks": []}'


def test_what_dies_over_a_request_is_told_as_something_to_try_again(tmp_path: Path) -> None:
    asked = []

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(BODY))
        writer.close()

    async def ask() -> None:
        socket = str(tmp_path / "socket")
        async with await asyncio.start_unix_server(die, socket):
            await PredictElsewhere(_unreachable, socket)(SCOPE, _body, _unreachable)

    with pytest.raises(HTTPException, match="is being started again") as refused:
        asyncio.run(asyncio.wait_for(ask(), 10))
    assert refused.value.status_code == 503
    assert asked[0].startswith(b"POST /predict HTTP/1.1\r\n")


SCOPE = {"type": "http", "path": "/predict", "method": "POST"}


async def _body() -> dict[str, Any]:
    return {"type": "http.request", "body": BODY, "more_body": False}


async def _unreachable(*message: Any) -> None:
    raise AssertionError(message)
