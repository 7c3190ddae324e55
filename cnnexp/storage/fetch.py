"""One file over HTTPS: into a part file that a later attempt goes on with, checked, and only then renamed into place.

Never over HTTP, not even where a server redirects there. What is cut or stalls is asked for again, from where it ended.
"""

import hashlib
import http.client
import shutil
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from tqdm import tqdm

from cnnexp import storage

ATTEMPTS = 3
STALLED_SECONDS = 30.0  # without a byte
LARGEST = 4 * 2**30  # bytes; the largest of torchvision's weights have 2.4 GiB
BLOCK = 2**18


class Unavailable(OSError):
    """A file cannot be had, and asking again at once would not help; the message says why."""


class Cut(OSError):
    """A transfer ended, or stood still, before its end."""


class OnlyHttps(HTTPRedirectHandler):
    """Follows redirections, but never away from https."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        """Return the request to follow with. Raises Unavailable for another scheme."""
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise Unavailable(f"{req.full_url} redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, path: Path, digest: str, context: ssl.SSLContext | None = None) -> None:
    """Download `url` to `path`, whose folder exists; the caller keeps others from doing so at the same time.

    digest: of the whole file, as "md5:..." or "sha256:..." in hexadecimal digits, of which the first may do. context:
    whom to trust; the system's certificates if None. The bytes so far lie in <path>.part, also after an error, and the
    next call goes on from there.
    Raises Unavailable, or another OSError (no network, no room, no permission), and then there is no `path`.
    """
    if urlsplit(url).scheme != "https":
        raise Unavailable(f"{url} is not https")
    opener = build_opener(HTTPSHandler(context=context), OnlyHttps())
    part = path.with_name(f"{path.name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        resumed = part.exists()
        try:
            _receive(opener, url, part)
            found = digest_of(part, digest)
            if found == digest:
                return storage.publish(part, path)
            storage.remove(part)
            if not resumed:
                raise Unavailable(f"{url} is not what is expected: it is {found}, not {digest}")
        except Cut as error:
            if attempt == ATTEMPTS:
                kept = f"; the {part.stat().st_size:,} bytes so far are kept" if part.exists() else ""
                raise Unavailable(f"{error}{kept}") from error
    raise Unavailable(f"{url} gave something else each time")


def digest_of(path: Path, like: str) -> str:
    """Return the digest of a file in the form of `like`: of the same kind, and with as many digits."""
    kind, _, digits = like.partition(":")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    return f"{kind}:{found[: len(digits)]}"


def _receive(opener: OpenerDirector, url: str, part: Path) -> None:
    """Ask for what `part` lacks of a file, and append it. Raises Cut, keeping what came, or Unavailable."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = opener.open(request, timeout=STALLED_SECONDS)
    except HTTPError as error:
        error.close()
        if have and error.code == 416:  # the file is not longer than the part: whether it is the same, its digest says
            return
        reason = str(error.reason).splitlines()[:1]
        raise Unavailable(f"{url} answers {error.code} {''.join(reason)}".strip()) from error
    except Unavailable:
        raise
    except URLError as error:
        raise Unavailable(f"{error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Cut(f"{url} gives no answer ({error!r})") from error
    with response:
        if have and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            storage.remove(part)
            if response.status == 206:
                raise Cut(f"{url} answers with another part than was asked for")
            have = 0  # the server sends all of it
        total = None if response.length is None else have + response.length
        _need_room(url, part, have, total)
        title = f"download {part.stem}"
        with tqdm(
            total=total, initial=have, unit="B", unit_scale=True, desc=title, file=sys.stderr, disable=None
        ) as bar:
            storage.append_blocks(part, _blocks(url, response, have, total, bar))


def _blocks(url: str, response: Any, have: int, total: int | None, bar: Any) -> Iterator[bytes]:
    """Yield what comes. Raises Cut if it ends before `total` bytes or stands still, Unavailable if it does not end."""
    while True:
        try:
            block = response.read1(BLOCK)  # what is there, so that nothing is lost if no more comes
        except TimeoutError as error:
            raise Cut(f"{url} sent nothing for {STALLED_SECONDS:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise Cut(f"the connection to {url} broke ({error!r})") from error
        if not block:
            break
        have += len(block)
        if have > LARGEST:
            raise Unavailable(f"{url} sends more than {LARGEST:,} bytes")
        bar.update(len(block))
        yield block
    if total is not None and have < total:
        raise Cut(f"the connection to {url} ended after {have:,} of {total:,} bytes")


def _need_room(url: str, part: Path, have: int, total: int | None) -> None:
    """Raise Unavailable if the file is larger than any that is fetched, or than what is free on the disk."""
    free = shutil.disk_usage(part.parent).free
    if total is not None and total > LARGEST:
        raise Unavailable(f"{url} has {total:,} bytes, more than {LARGEST:,}")
    if total is not None and total - have > free:
        raise Unavailable(f"{url} has {total:,} bytes, and {part.parent} has {free:,} free")
