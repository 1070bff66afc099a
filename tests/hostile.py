"""Hosts that a task's data may name, with what they do to who asks them: real sockets on the loopback address.

Each is a function over one connection, served by ``hosting``; what it was asked stands in ``Host.requests``.
"""

import base64
import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from PIL import Image

LOOPBACK = "127.0.0.1"


@dataclass
class Host:
    """A running host: its port, and the head of every request that it got."""

    port: int
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


Manner = Callable[[socket.socket, str], None]


@contextmanager
def hosting(manner: Manner, *, address: str = LOOPBACK) -> Iterator[Host]:
    """Answer every connection in that manner while the block runs."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, backlog=200) as listener:
        host = Host(listener.getsockname()[1])
        ended = threading.Event()
        threading.Thread(target=_accept, args=(listener, manner, host, ended), daemon=True).start()
        try:
            yield host
        finally:
            ended.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, manner: Manner, host: Host, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(connection, manner, host), daemon=True).start()


def _answer(connection: socket.socket, manner: Manner, host: Host) -> None:
    with connection, suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            if not piece:
                return
            head += piece
        host.requests.append(head.decode("latin-1"))
        manner(connection, head.split(b" ")[1].decode("latin-1"))


def answer(body: bytes, *headers: str, status: str = "200 OK") -> Manner:
    """Answer with a body."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]

    def manner(connection: socket.socket, path: str) -> None:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return manner


def routes(manners: dict[str, Manner]) -> Manner:
    """Answer each path, with its query, in a manner of its own, and any other with 404."""

    def manner(connection: socket.socket, path: str) -> None:
        manners.get(path, answer(b"", status="404 Not Found"))(connection, path)

    return manner


def redirect(target: str, *headers: str, status: str = "302 Found") -> Manner:
    return answer(b"", f"Location: {target}", *headers, status=status)


def picture(shade: int = 128, size: tuple[int, int] = (8, 8)) -> bytes:
    """Return a small PNG."""
    file = io.BytesIO()
    Image.new("L", size, shade).save(file, "PNG")
    return file.getvalue()


def hang(connection: socket.socket, path: str) -> None:
    """Take the request and say nothing."""
    time.sleep(600)


def drip(every: float = 0.5, *, head: bool = False) -> Manner:
    """Send one byte every so many seconds, of the body or of the head already."""

    def manner(connection: socket.socket, path: str) -> None:
        if not head:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        sent = b"HTTP/1.1 200 OK\r\nX-Long: " if head else b""
        while True:
            connection.sendall(sent[:1] or b"a")
            sent = sent[1:]
            time.sleep(every)

    return manner


def endless(connection: socket.socket, path: str) -> None:
    """Send a body without length and without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
    while True:
        connection.sendall(bytes(2**16))


def gzip_bomb(n_bytes: int = 2 * 2**30) -> Manner:
    """Send zeros, packed a thousandfold."""
    packer = zlib.compressobj(9, wbits=31)
    block = bytes(2**20)
    packed = b"".join(packer.compress(block) for _ in range(n_bytes // len(block))) + packer.flush()
    return answer(packed, "Content-Type: image/png", "Content-Encoding: gzip")


def data_address(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def png_of_zeros(width: int, height: int, *, depth: int = 8, color: int = 2, extra: bytes = b"") -> bytes:
    """Return a PNG of one colour and any size, made without holding it: kilobytes that decode to gigabytes."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = bytes(1 + width * samples * depth // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    palette = png_chunk(b"PLTE", bytes(3)) + png_chunk(b"tRNS", b"\x7f") if color == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + palette
        + extra
        + png_chunk(b"IDAT", packed)
        + png_chunk(b"IEND", b"")
    )


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
