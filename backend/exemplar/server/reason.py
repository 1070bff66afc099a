"""Sentences that reach the person in front of Label Studio.

When /setup fails, Label Studio's model card shows the status line of the answer and nothing of its body. ASGI has
no word for the reason phrase in that line, so an error answers with the header X-Exemplar-Reason, and the
connection puts its sentence where the card will show it.
"""

from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REASON_HEADER = b"x-exemplar-reason"
# A status line is shown on one line of the card.
MAX_REASON = 300


def reason_header(sentence: str) -> str:
    """Return a sentence fit for the status line: one line of printable Latin-1."""
    line = " ".join(sentence.replace("▸", ">").replace("…", "...").split())
    return line.encode("ascii", "replace").decode()[:MAX_REASON]


class _ReasonConnection(h11.Connection):
    """An HTTP connection whose responses carry the sentence of X-Exemplar-Reason as their reason phrase."""

    def send(self, event: h11.Event) -> Any:
        if isinstance(event, h11.Response):
            reason = dict(event.headers).get(REASON_HEADER)
            if reason is not None:
                event = h11.Response(
                    status_code=event.status_code,
                    headers=list(event.headers),
                    http_version=event.http_version,
                    reason=reason,
                )
        return super().send(event)


class ReasonProtocol(H11Protocol):
    """uvicorn's HTTP protocol, with sentences in its status lines."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        limit = self.config.h11_max_incomplete_event_size
        self.conn = _ReasonConnection(h11.SERVER, limit) if limit else _ReasonConnection(h11.SERVER)
