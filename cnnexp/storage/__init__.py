"""The only package that writes, syncs, renames, locks and deletes files.

disk         the operations: each reaches a failpoint first, and its errors name the file
failpoints   how a test makes one operation fail, or kills the process there
checksums    how a reader finds out that a file was damaged
files        files replaced as a unit: bytes, text, JSON, arrays, folders
rows         files that grow by lines: rows of metrics, logs
locks        one process at a time
space        checks before training: outputs can be written, the disk has space
scratch      the folder of this process for temporary files
untrusted    checks of files in a folder that may come from anyone
torch_files  torch files, read without running code
fetch        one file over HTTPS
"""

from cnnexp.storage.checksums import Damaged, crc32_of, encode, verify_checksum
from cnnexp.storage.disk import MACHINE, TRANSIENT, StorageError, reading, sync_folder
from cnnexp.storage.files import (
    append_blocks,
    copy,
    draft,
    drafts_below,
    make_folder,
    publish,
    publish_folder,
    read_json,
    remove,
    remove_drafts,
    rename,
    size_bytes,
    sync_tree,
    write_array,
    write_bytes,
    write_json,
    write_text,
)
from cnnexp.storage.locks import UNREADABLE, Locked, holder, is_locked, lock
from cnnexp.storage.rows import append_row, append_text, keep_rows, log_descriptor, read_rows, sync_file

__all__ = [
    "MACHINE", "TRANSIENT", "UNREADABLE", "Damaged", "Locked", "StorageError", "append_blocks", "append_row",
    "append_text", "copy", "crc32_of", "draft", "drafts_below", "encode", "holder", "is_locked", "keep_rows", "lock",
    "log_descriptor", "make_folder", "publish", "publish_folder", "read_json", "read_rows", "reading", "remove",
    "remove_drafts", "rename", "size_bytes", "sync_file", "sync_folder", "sync_tree", "verify_checksum",
    "write_array", "write_bytes", "write_json", "write_text",
]  # fmt: skip
