"""Files of a model on the Hugging Face Hub, pinned to a commit and fetched so that an interruption costs nothing.

Files land in the Hugging Face cache, where other tools find them and theirs are found; its layout is documented
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache). `hf_hub_download` fills it too, but it begins a shard
anew after an interruption (`download` says why), compares sizes and no hashes, and lets a server's etag name a file as
it is (version 2.4.0). Here a partial file stays, as `<etag>.incomplete`, and the next run asks for the rest.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from huggingface_hub import HfApi, constants, errors, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from qwen3_compile.checkpoint.digest import file_digest
from qwen3_compile.checkpoint.download import resume
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The first is httpx's or httpx2's, whichever this version of huggingface_hub stands on.
_FAILURES = (errors.HTTPError, OSError, ValueError)  # type: ignore[attr-defined]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGESTS = {40: "sha1", 64: "sha256"}  # length of an etag in hex: a git blob's, a large file's


@dataclass(frozen=True)
class HubSnapshot:
    """One commit of a repository, whose files are fetched into `folder` as they are asked for.

    Attributes:
        repo: `org/name`.
        commit: the full commit hash.
        names: the repository's files; None when it is offline and only the cache can be looked at.
        cache_dir: the Hugging Face cache.
        offline: why the hub was not asked, in a few words, or None.
    """

    repo: str
    commit: str
    names: frozenset[str] | None
    cache_dir: Path
    offline: str | None = None

    @property
    def uri(self) -> str:
        """`hf://org/name@commit`."""
        return f"hf://{self.repo}@{self.commit}"

    @property
    def folder(self) -> Path:
        """Where the snapshot's files are, or will be."""
        return self._storage / "snapshots" / self.commit

    def fetch(self, names: Iterable[str]) -> None:
        """Bring those of `names` that the repository has into `folder`, resuming what an earlier run began.

        Raises:
            CheckpointError: a download failed, or its bytes are not what the hub promised.
        """
        for name in names:
            if self.names is not None and name in self.names and not (self.folder / name).is_file():
                try:
                    self._download(name)
                except _FAILURES as error:
                    refusal = _refusal(error)
                    problem = refusal or f"the download broke off ({_first_line(error)}); run again to resume it"
                    raise CheckpointError(f"{self.uri}: {name}: {problem}") from error

    @property
    def _storage(self) -> Path:
        return self.cache_dir / f"models--{self.repo.replace('/', '--')}"

    def _download(self, name: str) -> None:
        url = hf_hub_url(self.repo, name, revision=self.commit, endpoint=_endpoint())
        remote = get_hf_file_metadata(url, endpoint=_endpoint())
        # A mirror's etag may be anything: only hexadecimal ones become file names as they are.
        etag = remote.etag or f"{self.commit}/{name}"
        is_digest = re.fullmatch(r"[0-9a-f]+", etag) is not None and len(etag) in _DIGESTS
        blob = self._storage / "blobs" / (etag if is_digest else hashlib.sha256(etag.encode()).hexdigest())
        blob.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(blob.with_name(f"{blob.name}.lock")):
            if not blob.is_file() and is_digest:
                partial = blob.with_name(f"{blob.name}.incomplete")
                resume(url, partial, size=remote.size)
                if file_digest(partial, algorithm=_DIGESTS[len(etag)]) != etag:
                    partial.unlink()
                    raise CheckpointError(
                        f"{self.uri}: {name}: the bytes received do not have the hash that the hub states; run again"
                    )
                partial.replace(blob)
            elif not blob.is_file():
                # Nothing could tell whether the rest belongs to what another run kept.
                with tempfile.TemporaryDirectory(dir=blob.parent) as folder:
                    whole = Path(folder) / blob.name
                    resume(url, whole, size=remote.size)
                    whole.replace(blob)
        _link(self.folder / name, blob)


def hub_snapshot(repo: str, revision: str, *, cache_dir: Path | None = None) -> HubSnapshot:
    """Resolve `revision` (branch, tag or commit) of `repo` to a commit, from the cache when the hub cannot be reached.

    Raises:
        CheckpointError: no such repository or revision, no access to it, or offline and nothing cached.
    """
    cache = Path(cache_dir if cache_dir is not None else constants.HF_HUB_CACHE).expanduser()
    found = _query_hub(repo, revision)
    if isinstance(found, str):
        return _cached_snapshot(repo, revision, cache, found)
    commit, sizes = found
    snapshot = HubSnapshot(repo, commit, frozenset(sizes), cache)
    _remember_revision(snapshot, revision)
    return snapshot


@dataclass(frozen=True)
class HubListing:
    """The files of one commit.

    Attributes:
        commit: the full commit hash.
        sizes: bytes by name.
        cached: the files that need no download.
    """

    commit: str
    sizes: Mapping[str, int]
    cached: frozenset[str]


def hub_listing(repo: str, revision: str, *, cache_dir: Path | None = None) -> HubListing | None:
    """List the files of a revision without writing anything; None when the hub cannot be reached.

    Raises:
        CheckpointError: no such repository or revision, or no access to it.
    """
    found = _query_hub(repo, revision, sizes=True)
    if isinstance(found, str):
        return None
    commit, sizes = found
    cache = Path(cache_dir if cache_dir is not None else constants.HF_HUB_CACHE).expanduser()
    folder = HubSnapshot(repo, commit, None, cache).folder
    return HubListing(commit, sizes, frozenset(name for name in sizes if (folder / name).is_file()))


def _query_hub(repo: str, revision: str, *, sizes: bool = False) -> tuple[str, dict[str, int]] | str:
    """The commit of a revision and its files, of size 0 unless asked for; or why the hub cannot be reached."""
    uri = f"hf://{repo}@{revision}"
    if ".." in revision:  # git allows no such name, and the cache has a file of this name
        raise CheckpointError(f"{uri}: {revision!r} is not the name of a revision")
    try:
        info = HfApi(endpoint=_endpoint()).model_info(
            repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT, files_metadata=sizes
        )
    except (*_FAILURES, KeyError, TypeError) as error:  # the last two: an answer that is not the hub's
        if refusal := _refusal(error):
            raise CheckpointError(f"{uri}: {refusal}") from error
        return "HF_HUB_OFFLINE is set" if isinstance(error, OfflineModeIsEnabled) else _first_line(error)
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        raise CheckpointError(f"{uri}: the hub resolved the revision to {info.sha!r}, which is not a commit hash")
    return info.sha, {file.rfilename: file.size or 0 for file in info.siblings or ()}


def _cached_snapshot(repo: str, revision: str, cache: Path, reason: str) -> HubSnapshot:
    for name in ("config.json", "tokenizer.json"):
        cached = try_to_load_from_cache(repo, name, cache_dir=cache, revision=revision)
        if isinstance(cached, str):
            return HubSnapshot(repo, Path(cached).parent.name, None, cache, offline=reason)
    raise CheckpointError(
        f"hf://{repo}@{revision}: the hub cannot be reached ({reason}) and {cache} holds no copy of this revision"
    )


def _remember_revision(snapshot: HubSnapshot, revision: str) -> None:
    """Record what a branch or tag points to, so that it resolves offline later (the cache's own convention)."""
    if revision == snapshot.commit:
        return
    reference = snapshot.folder.parent.parent / "refs" / revision
    try:
        reference.parent.mkdir(parents=True, exist_ok=True)
        temporary = reference.with_name(f"{reference.name}.{os.getpid()}.tmp")
        temporary.write_text(snapshot.commit)
        temporary.replace(reference)
    except OSError as error:
        raise CheckpointError(f"{reference}: cannot be written: {error.strerror}; is the cache writable?") from error


def _link(path: Path, blob: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.symlink_to(os.path.relpath(blob, path.parent))
    except OSError:  # a file system without links
        os.link(blob, temporary)
    temporary.replace(path)


def _endpoint() -> str | None:
    """`HF_ENDPOINT` as it is now: the library reads it only once, when it is imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _refusal(error: Exception) -> str | None:
    """What the hub has against the request, or None where it could not be asked."""
    if isinstance(error, GatedRepoError):
        return "access is gated: accept the terms on the repository's page, then run `hf auth login`"
    if isinstance(error, HFValidationError):
        return f"not the name of a repository: {_first_line(error)}"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision"
    # The hub does not tell a stranger whether a private repository exists.
    unauthorized = isinstance(error, HfHubHTTPError) and error.response.status_code == 401
    if unauthorized or isinstance(error, RepositoryNotFoundError):
        return "no such repository, or a private one: check the name, or run `hf auth login`"
    if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
        return f"the hub refused the request: {_first_line(error)}"
    return None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
