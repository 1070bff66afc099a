"""How a refusal is told: one sentence as JSON, and in the status line, where Label Studio's model card shows it."""

from collections.abc import Mapping

from fastapi.responses import JSONResponse

from exemplar.server.reason import reason_header


def refusal(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the answer of an error; half characters that came with a request are written as escapes."""
    sentence = sentence.encode(errors="backslashreplace").decode()
    return JSONResponse(
        {"error": sentence}, status, {**(headers or {}), "X-Exemplar-Reason": reason_header(sentence)}
    )
