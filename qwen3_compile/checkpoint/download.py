"""One file of the hub over HTTP, appended to what an earlier process kept of it.

`huggingface_hub` resumes a download within a process and not across processes: version 2.4.0, like every one since
its pull request 4228, downloads to a file of a random name and removes it when the download fails, because processes
that append to one file garble it where a file system's locks do nothing (Lustre, GPFS, some NFS mounts). Of a shard
that broke off, `hf_hub_download` and `snapshot_download` ask for the first byte again (a test holds the library to
that: when it fails, this module can go). A released shard has 4 GB.

Here the partial file has a name that the next process finds, and locks are not trusted: only bytes with the hash that
the hub states become a file of the cache. What has no such hash is not kept.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, BinaryIO

from huggingface_hub import constants, errors, hf_raise_for_status
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but exported lazily
    build_hf_headers,
    http_stream_backoff,
    tqdm,
)

if TYPE_CHECKING:
    from pathlib import Path

_ATTEMPTS = 5  # in a row that bring nothing
_PAUSE = 1.0  # seconds between them


def resume(url: str, partial: Path, *, size: int | None) -> None:
    """Download what `partial` lacks of a file; a connection that breaks off is made again.

    Args:
        url: of the whole file.
        partial: gets the bytes, and keeps them when the download fails.
        size: bytes of the file; None where the server does not say, and then the download begins anew.

    Raises:
        HTTPError: the hub refuses, or the connection breaks off again and again.
        OSError: the disk is full, or the server sent another number of bytes.
    """
    with partial.open("ab") as file:
        if size is None or file.tell() > size:
            file.truncate(0)
        attempts = _ATTEMPTS
        shown = {"total": size, "initial": _end(file), "unit": "B", "unit_scale": True, "desc": url.rpartition("/")[2]}
        with tqdm(**shown, disable=None) as bar:  # type: ignore[no-untyped-call]  # None: where stderr is a terminal
            while _end(file) != size:
                before = _end(file)
                try:
                    _append(url, file, bar)
                    break
                except errors.HTTPError as error:  # type: ignore[attr-defined]  # httpx's or httpx2's
                    attempts = _ATTEMPTS if _end(file) > before else attempts - 1
                    if isinstance(error, errors.HfHubHTTPError) or not attempts:
                        raise
                    time.sleep(_PAUSE)
        if size is not None and (found := _end(file)) != size:
            raise OSError(f"expected {size} bytes, the server sent {found}")


def _append(url: str, file: BinaryIO, bar: tqdm) -> None:
    begin = _end(file)
    # Of a compressed answer no range could be asked for.
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
    with http_stream_backoff(
        "GET",
        url,
        headers=headers,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        retry_on_exceptions=(),
        retry_on_status_codes=(408, 429),
    ) as response:
        hf_raise_for_status(response)
        if begin and response.status_code != 206:  # the whole file, whatever was asked for
            file.truncate(0)
            bar.update(-begin)
        for block in response.iter_bytes():  # as they arrive: blocks of a set size would lose the last, begun one
            file.write(block)
            bar.update(len(block))


def _end(file: BinaryIO) -> int:
    """Bytes in a file that is written at its end."""
    return file.seek(0, 2)
