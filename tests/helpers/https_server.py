"""A web server on localhost that serves one file over HTTPS, well or badly, and remembers what it was asked for."""

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CERTIFICATE = Path(__file__).parent / "localhost.pem"
CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes


class Server(ThreadingHTTPServer):
    """mishaps: what happens to the first requests, one each; later ones are served well. asked: their Range headers."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, mishaps: list[str], content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.mishaps, self.content, self.asked = list(mishaps), content, list[str | None]()
        self.over = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request, with the server's next mishap."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.asked.append(self.headers["Range"])
        mishap = self.server.mishaps.pop(0) if self.server.mishaps else ""
        content, start = self.server.content, 0
        if mishap.startswith(("3", "4", "5")):
            code, _, place = mishap.partition(" ")
            return self.head(int(code), 0, Location=place)
        if mishap == "no HTTP":
            self.wfile.write(b"SSH-2.0-hello\r\n")
            return None
        if mishap == "hang up":
            return None
        if (found := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")) and mishap != "no ranges":
            start = int(found[1]) + (7 if mishap == "another part" else 0)
            if start >= len(content):
                return self.head(416, 0)
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.head(206, len(content) - start, **{"Content-Range": span})
        elif mishap == "no length":
            self.head(200, None)
        elif mishap == "huge":
            self.head(200, 10**15)
        else:
            self.head(200, len(content))
        body = content[start:]
        if mishap in ("cut", "stall"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if mishap == "stall":
                self.server.over.wait(30)
        elif mishap == "wrong bytes":
            self.wfile.write(b"x" + body[1:])
        else:
            self.wfile.write(body)
        return None

    def head(self, code: int, length: int | None, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()


@contextmanager
def serving(*mishaps: str, content: bytes = CONTENT, secure: bool = True) -> Iterator[tuple[str, Server]]:
    """Serve while the block runs; gives the file's URL and the server."""
    server = Server(list(mishaps), content)
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http{'s' * secure}://127.0.0.1:{server.server_address[1]}/file.tgz", server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def trusting() -> ssl.SSLContext:
    """Return a context that trusts this server alone."""
    return ssl.create_default_context(cafile=str(CERTIFICATE))
