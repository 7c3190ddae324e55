"""`cnnexp report --serve`: show a report at an address of this machine only, and make it again when records change.

Only the files that the pages of a report list are served, and nothing can be changed. The Host header must be this
server's own, so that no web page reaches it under a name that points here (DNS rebinding).
"""

import errno
import functools
import gzip
import os
import re
import socketserver
import sys
import threading
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from markupsafe import escape  # as the template engine does

from cnnexp.errors import UserError
from cnnexp.pages.files import is_of_page
from cnnexp.pages.plotly import library
from cnnexp.pages.template import POLICY, SHARED, digest
from cnnexp.report import Report
from cnnexp.report.watch import watch
from cnnexp.storage.untrusted import open_no_link
from cnnexp.text import visible

LIBRARY = "/plotly.js"
LIVE = SHARED / "live.js"
PACKED = re.compile(rb'<script type="text/plain" id="library">[A-Za-z0-9+/=]+</script>')
HOST, PORT = "127.0.0.1", 8750
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    **dict.fromkeys((".csv", ".md", ".tex"), "text/plain; charset=utf-8"),
}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(
    folder: Path, out: Path, port: int | None, write: Callable[[], Report], say: Callable[[Report, str], None]
) -> None:
    """Serve the report in `out`, and write it again when a record at or below `folder` changes, until interrupted.

    port: None takes PORT, or a free one if that is in use. Raises UserError if the port cannot be used, or if the first
    report cannot be written. If a later one cannot, the reason is printed, and the last one stays.
    """
    server, last = _server(out, port), None
    thread = threading.Thread(target=server.serve_forever, daemon=True)

    def write_again() -> Report:
        nonlocal last
        try:
            written = write()
        except UserError as error:
            if last is None:
                raise
            print(f"cnnexp: the report stays as it was: {visible(error)}", file=sys.stderr)
            return last
        if last is None:
            thread.start()
            print(f"http://{HOST}:{server.server_port}/  (Ctrl-C ends)", flush=True)
        last = written
        return written

    try:
        watch(folder, write_again, say, forever=True)
    finally:
        if thread.is_alive():
            server.shutdown()
        server.server_close()


class Server(ThreadingHTTPServer):
    """Serves the files that the pages in `out` list."""

    daemon_threads = True

    def __init__(self, out: Path, port: int) -> None:
        self.out = out
        super().__init__((HOST, port), Handler)

    def server_bind(self) -> None:
        """Bind, without the search for this machine's name that http.server makes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that has closed its connection."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _server(out: Path, port: int | None) -> Server:
    wanted = PORT if port is None else port
    try:
        return Server(out, wanted)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return Server(out, 0)
        taken = error.errno == errno.EADDRINUSE
        reason = "is in use" if taken else f"cannot be used ({error.strerror or error})"
        raise UserError(f"--port {wanted}: {reason}; choose another, or 0 for any that is free") from error


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD with a file of the report, everything else with an error."""

    server: Server
    timeout = 30  # seconds in which a request must arrive
    server_version, sys_version = "cnnexp", ""

    def do_GET(self) -> None:
        """Answer with a file."""
        if self.headers.get_all("Host", []) not in self._hosts():
            self.send_error(403, "This server is reached by its own address only")
        elif self.path == LIBRARY and (content := _library()):
            self._send(content, "text/javascript", {"Cache-Control": "max-age=86400"})
        elif (file := find(self.server.out, self.path)) is None:
            self.send_error(404)
        else:
            self._send_file(file)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        """Refuse a request that would change something."""
        self.send_error(405)

    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = do_POST  # noqa: N815

    def _hosts(self) -> list[list[str]]:
        port = self.server.server_port
        return [[f"{name}:{port}"] for name in (HOST, "localhost")] + [[HOST], ["localhost"]] * (port == 80)

    def _send_file(self, file: Path) -> None:
        try:
            with open(file, "rb", opener=open_no_link) as opened:
                found, content = os.fstat(opened.fileno()), opened.read()
        except OSError:  # removed meanwhile, by a report without this file
            self.send_error(404)
            return
        version = f"{found.st_mtime_ns:x}-{found.st_size:x}"
        if file.suffix == ".html":
            content = live(content, version)
        sandbox = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"}
        self._send(content, TYPES[file.suffix], {"ETag": f'"{version}"', **(sandbox if file.suffix == ".svg" else {})})

    def _send(self, content: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(200)
        self.own_headers = headers
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def end_headers(self) -> None:
        """Add the headers of every answer."""
        for name, value in {**HEADERS, **getattr(self, "own_headers", {})}.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def find(out: Path, target: str) -> Path | None:
    """Return the file of a report that a request names; None if no page in `out` lists it, or if it is a link.

    A name that ends in / stands for its index.html. A folder is never listed.
    """
    with suppress(OSError, ValueError):
        first, *parts = unquote(target.partition("?")[0], errors="strict").split("/")
        parts[-1:] = [parts[-1] or "index.html"] if parts else []
        if first or not parts or any(not part or part.startswith(".") or "\\" in part for part in parts):
            return None
        places = [out.joinpath(*parts[: count + 1]) for count in range(len(parts))]
        is_file = places[-1].suffix in TYPES and places[-1].is_file() and not any(p.is_symlink() for p in places)
        return places[-1] if is_file and is_of_page(out, parts) else None
    return None


def live(page: bytes, version: str) -> bytes:
    """Return a page of ours with live.js, allowed to ask its own server. version: changes when the page does."""
    script, found = LIVE.read_text(encoding="utf-8"), library()
    policy, allowed = escape(POLICY), escape(f"connect-src 'self'; {POLICY} {digest(script)}")
    page = page.replace(policy.encode(), allowed.encode(), 1)
    page = page.replace(b'<html lang="en">', f'<html lang="en" data-version="{version}">'.encode(), 1)
    if found:
        by_hash = f'<script id="library" src="{LIBRARY}" integrity="{found.digest.strip(chr(39))}"></script>'
        page = PACKED.sub(by_hash.encode(), page, count=1)
    before, _, after = page.rpartition(b"</body>")
    return before + f"<script>{script}</script>\n</body>".encode() + after


@functools.lru_cache(maxsize=1)
def _library() -> bytes:
    """Return the script for interactive figures, b"" without."""
    found = library()
    return gzip.decompress(b64decode(found.packed)) if found else b""
