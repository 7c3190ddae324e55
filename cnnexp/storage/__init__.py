"""The one room that writes, syncs, renames, locks and deletes files.

disk        the operations themselves: past a failpoint, with errors that name the file
failpoints  how a test makes one of them fail, or ends the process there
checksums   how a damaged file is told from a whole one
files       whole files, replaced atomically; objects: JSON files; arrays: folders of .npy files
rows        files that grow by lines: metric rows, logs
locks       one process at a time
"""

from cnnexp.storage.arrays import publish_folder, write_array
from cnnexp.storage.checksums import Damaged, check, crc32_of, tell_once
from cnnexp.storage.disk import StorageError, sync_folder
from cnnexp.storage.files import (
    append_blocks,
    copy,
    draft,
    make_folder,
    publish,
    remove,
    remove_drafts,
    rename,
    size_bytes,
    sync_tree,
    write_bytes,
    write_text,
)
from cnnexp.storage.locks import Locked, is_locked, lock
from cnnexp.storage.objects import has_checksum, read_json, write_json
from cnnexp.storage.rows import (
    append_row,
    append_text,
    keep_rows,
    log_descriptor,
    read_rows,
    sync_file,
)

__all__ = [
    "Damaged",
    "Locked",
    "StorageError",
    "append_blocks",
    "append_row",
    "append_text",
    "check",
    "copy",
    "crc32_of",
    "draft",
    "has_checksum",
    "is_locked",
    "keep_rows",
    "lock",
    "log_descriptor",
    "make_folder",
    "publish",
    "publish_folder",
    "read_json",
    "read_rows",
    "remove",
    "remove_drafts",
    "rename",
    "size_bytes",
    "sync_file",
    "sync_folder",
    "sync_tree",
    "tell_once",
    "write_array",
    "write_bytes",
    "write_json",
    "write_text",
]
