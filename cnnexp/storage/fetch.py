"""Download one file over HTTPS: into a part file, which is checked and then renamed into place.

Never over HTTP, not even where a server redirects there. A transfer that ends early or stalls resumes where it ended.
"""

import hashlib
import http.client
import shutil
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from tqdm import tqdm

from cnnexp import storage
from cnnexp.errors import UserError

ATTEMPTS = 3
STALLED_SECONDS = 30.0  # without a byte
MAX_FILE_BYTES = 4 * 2**30  # torchvision's largest weights have 2.4 GiB
BLOCK_BYTES = 2**18


class Unavailable(OSError):
    """A file cannot be downloaded, and a second attempt would not help; the message says why."""


class Cut(OSError):
    """A transfer ended early or stalled."""


class OnlyHttps(HTTPRedirectHandler):
    """Follows redirects, but only to https."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        """Return the next request. Raises Unavailable for another scheme."""
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise Unavailable(f"{req.full_url} redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, path: Path, digest: str, context: ssl.SSLContext | None = None) -> None:
    """Download `url` to `path`. Its folder exists; the caller holds a lock.

    digest: of the file, as "md5:..." or "sha256:..." in hexadecimal digits; a prefix of the digits is enough.
    context: the certificates to trust; the system's if None.
    The bytes so far are in <path>.part, also after an error, and the next call resumes there.
    Raises Unavailable, or another OSError (no network, no space, no permission); then `path` does not exist.
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
                raise Unavailable(f"{url} has the wrong content: its digest is {found}, not {digest}")
        except Cut as error:
            if attempt == ATTEMPTS:
                kept = f"; the {part.stat().st_size:,} bytes so far are kept" if part.exists() else ""
                raise Unavailable(f"{error}{kept}") from error
    raise Unavailable(f"{url} sent other content each time")


@contextmanager
def reserved(folder: Path, name: str) -> Iterator[None]:
    """Make a folder and hold the lock on `name` in it, to download that. If the block fails, leave nothing behind.

    Folders that existed stay, and so do files, such as the bytes of a transfer that can be resumed.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = folder / f".{name}.lock"
    with storage.lock(lock, wait=True):
        try:
            yield
        except BaseException:
            storage.remove(lock)
            for path in made:
                if any(path.iterdir()):
                    break
                storage.remove(path)
            raise


def provide(url: str, path: Path, digest: str, context: ssl.SSLContext | None = None) -> None:
    """Download `url` to `path` unless the file exists, as `fetch` does, and say so on standard error.

    Raises UserError if the existing file has another digest, which it keeps, and OSError as `fetch` does.
    """
    if not path.exists():
        print(f"{path.name}: downloading {url} to {path.parent}", file=sys.stderr)
        fetch(url, path, digest, context)
    elif (found := digest_of(path, digest)) != digest:
        fix = f"delete it, or put {url} there"
        raise UserError(f"{path}: is not the expected file (it is {found}, not {digest}); {fix}")


def digest_of(path: Path, like: str) -> str:
    """Return the digest of a file in the form of `like`: the same kind and number of digits."""
    kind, _, digits = like.partition(":")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    return f"{kind}:{found[: len(digits)]}"


def _receive(opener: OpenerDirector, url: str, part: Path) -> None:
    """Download the rest of a file and append it to `part`. Raises Cut, keeping what arrived, or Unavailable."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = opener.open(request, timeout=STALLED_SECONDS)
    except HTTPError as error:
        error.close()
        if have and error.code == 416:  # the part is complete; the digest is checked next
            return
        reason = str(error.reason).splitlines()[:1]
        raise Unavailable(f"{url} answers {error.code} {''.join(reason)}".strip()) from error
    except Unavailable:
        raise
    except URLError as error:
        raise Unavailable(f"{error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Cut(f"{url} does not answer ({error!r})") from error
    with response:
        if have and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            storage.remove(part)
            if response.status == 206:
                raise Cut(f"{url} answers with another part than requested")
            have = 0  # the server sends the file from its start
        total = None if response.length is None else have + response.length
        _check_free_space(url, part, have, total)
        title = f"download {part.stem}"
        with tqdm(
            total=total, initial=have, unit="B", unit_scale=True, desc=title, file=sys.stderr, disable=None
        ) as bar:
            storage.append_blocks(part, _blocks(url, response, have, total, bar))


def _blocks(url: str, response: Any, have: int, total: int | None, bar: Any) -> Iterator[bytes]:
    """Yield what arrives. Raises Cut if it ends before `total` bytes or stalls, Unavailable if it is too large."""
    while True:
        try:
            block = response.read1(BLOCK_BYTES)  # what has arrived, so that nothing is lost if the connection breaks
        except TimeoutError as error:
            raise Cut(f"{url} sent nothing for {STALLED_SECONDS:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise Cut(f"the connection to {url} broke ({error!r})") from error
        if not block:
            break
        have += len(block)
        if have > MAX_FILE_BYTES:
            raise Unavailable(f"{url} sends more than {MAX_FILE_BYTES:,} bytes")
        bar.update(len(block))
        yield block
    if total is not None and have < total:
        raise Cut(f"the connection to {url} ended after {have:,} of {total:,} bytes")


def _check_free_space(url: str, part: Path, have: int, total: int | None) -> None:
    """Raise Unavailable if the file is larger than MAX_FILE_BYTES, or than the free space on the disk."""
    free = shutil.disk_usage(part.parent).free
    if total is not None and total > MAX_FILE_BYTES:
        raise Unavailable(f"{url} has {total:,} bytes, more than {MAX_FILE_BYTES:,}")
    if total is not None and total - have > free:
        raise Unavailable(f"{url} has {total:,} bytes, and {part.parent} has {free:,} free")
