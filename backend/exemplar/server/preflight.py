"""What a start needs of the machine, looked at before anything runs: a folder, an address, a free port."""

import errno
import os
import socket
from pathlib import Path

from exemplar.errors import SettingError


def check_folder(folder: Path) -> None:
    """Make the models' folder; a ``SettingError`` says why that cannot be, or that we may not write there."""
    expected = "a folder that can be read and written"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError("MODEL_DIR", str(folder), f"{expected} ({error.strerror})") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise SettingError("MODEL_DIR", str(folder), f"{expected} by the user that runs this")


def check_address(host: str, port: int) -> None:
    """Make sure that we can listen there; a ``SettingError`` names the setting that is to be changed."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise SettingError("EXEMPLAR_HOST", host, f"a name or an address of this machine ({error})") from error
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()  # a port that another one listens at may be bound on some systems
        except OSError as error:
            raise _refusal(error, host, port) from error


def _refusal(error: OSError, host: str, port: int) -> SettingError:
    if error.errno == errno.EADDRINUSE:
        return SettingError(
            "PORT", port, "a free port: another program listens there. Choose one with --port or PORT"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return SettingError("PORT", port, "a port that you may open; those below 1024 are for root alone")
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return SettingError("EXEMPLAR_HOST", host, "an address of this machine, such as 127.0.0.1 or 0.0.0.0")
    return SettingError("EXEMPLAR_HOST", host, f"an address to listen on ({error.strerror})")
