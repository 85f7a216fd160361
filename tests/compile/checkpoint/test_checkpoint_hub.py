"""Checkpoints of the hub: pinned, resumed, verified, and usable offline; every refusal is one line.

Covers: pinning, resuming, refusals, offline
Reference: a local HTTP server that speaks the hub's API
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import errors, hf_hub_download

from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.errors import CheckpointError

SOURCE = "hf://test/tiny@main"


def opened(cache: Path, source: str = SOURCE, **options):
    return open_checkpoint(source, base_dir=Path("/nonexistent"), cache_dir=cache, **options)


def failure(cache: Path, source: str = SOURCE, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        opened(cache, source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def largest_shard(hub) -> str:
    return max((name for name in hub.files if name.endswith(".safetensors")), key=lambda name: len(hub.files[name]))


def test_a_branch_is_pinned_to_its_commit_and_every_needed_file_arrives_intact(hub, tmp_path):
    checkpoint = opened(tmp_path)
    assert checkpoint.revision == hub.commit
    assert checkpoint.uri == f"hf://test/tiny@{hub.commit}"
    stated = {file.name: (file.size, file.sha256) for file in checkpoint.files()}
    defining = {name for name in hub.files if name.endswith((".safetensors", ".index.json"))} | {"config.json"}
    assert stated == {name: (len(hub.files[name]), hashlib.sha256(hub.files[name]).hexdigest()) for name in defining}
    assert {name: path.read_bytes() for name, path in checkpoint.assets().items()} == {
        name: hub.files[name] for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
    }
    assert hub.downloads("original.pth") == []


@pytest.mark.usefixtures("hub")
def test_tensors_equal_those_of_the_folder_that_was_uploaded(tmp_path, sharded_folder):
    remote, local = opened(tmp_path), open_checkpoint(str(sharded_folder), base_dir=tmp_path)
    assert remote.tensors() == local.tensors()
    for name in local.tensors():
        np.testing.assert_array_equal(remote.read(name), local.read(name))


def test_a_second_opening_downloads_nothing(hub, tmp_path):
    opened(tmp_path)
    sent = hub.sent
    opened(tmp_path, f"hf://test/tiny@{hub.commit}")
    info = hub.sent - sent
    assert info < 2000
    assert hub.downloads("config.json") == [None]


def test_a_rerun_resumes_a_download_that_broke_off(hub, tmp_path):
    name = largest_shard(hub)
    size, kept = len(hub.files[name]), 20_000
    hub.cut[name] = kept
    message = failure(tmp_path)
    assert name in message
    assert "run again" in message

    hub.down, hub.sent = False, 0
    checkpoint = opened(tmp_path)
    assert hub.downloads(name)[-1] == f"bytes={kept}-"
    others = sum(len(content) for file, content in hub.files.items() if file > name) + 2000
    assert hub.sent <= size - kept + others
    assert hashlib.sha256(hub.files[name]).hexdigest() in {file.sha256 for file in checkpoint.files()}
    assert not list(tmp_path.rglob("*.incomplete"))


def test_a_connection_cut_once_is_resumed_within_the_run(hub, tmp_path, monkeypatch):
    name = largest_shard(hub)
    hub.cut[name] = 1000
    monkeypatch.setattr(type(hub), "down", property(lambda _self: False, lambda _self, _value: None))
    opened(tmp_path)
    assert hub.downloads(name) == [None, "bytes=1000-"]


def test_the_library_alone_would_begin_anew(hub, tmp_path):
    """Why `download` exists; when this fails, `hf_hub_download` may do."""
    name = largest_shard(hub)
    hub.cut[name] = 20_000
    place = {"revision": hub.commit, "cache_dir": tmp_path, "endpoint": os.environ["HF_ENDPOINT"]}
    with pytest.raises(errors.HfHubHTTPError):
        hf_hub_download("test/tiny", name, **place)
    hub.down = False
    hf_hub_download("test/tiny", name, **place)
    assert hub.downloads(name) == [None, "bytes=20000-", None]


def test_a_file_without_a_hash_is_not_resumed(hub, tmp_path, monkeypatch):
    name = largest_shard(hub)
    genuine = hub.etag
    monkeypatch.setattr(hub, "etag", lambda file: "../../x" if file == name else genuine(file), raising=False)
    hub.cut[name] = 20_000
    assert "run again" in failure(tmp_path)
    hub.down = False
    checkpoint = opened(tmp_path)
    assert hub.downloads(name) == [None, "bytes=20000-", None]
    assert hashlib.sha256(hub.files[name]).hexdigest() in {file.sha256 for file in checkpoint.files()}
    assert not [path for path in (tmp_path / "models--test--tiny" / "blobs").iterdir() if path.is_dir()]


def test_a_partial_file_that_is_too_long_or_of_another_file_is_thrown_away(hub, tmp_path):
    name = largest_shard(hub)
    partial = tmp_path / "models--test--tiny" / "blobs" / f"{hub.etag(name)}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 20_000)
    assert "hash" in failure(tmp_path)
    assert not partial.exists()
    partial.write_bytes(b"x" * (len(hub.files[name]) + 1))
    opened(tmp_path)
    assert hub.downloads(name) == ["bytes=20000-", None]


def test_a_server_that_ignores_ranges_sends_the_file_anew(hub, tmp_path):
    name = largest_shard(hub)
    hub.cut[name] = 20_000
    failure(tmp_path)
    hub.down, hub.ranges = False, False
    checkpoint = opened(tmp_path)
    assert hub.downloads(name)[-1] == "bytes=20000-"
    assert hashlib.sha256(hub.files[name]).hexdigest() in {file.sha256 for file in checkpoint.files()}


def test_a_connection_that_breaks_off_again_and_again_ends_the_download(hub, tmp_path, monkeypatch):
    name = largest_shard(hub)
    monkeypatch.setattr("qwen3_compile.checkpoint.download._PAUSE", 0.0)
    monkeypatch.setattr(type(hub), "down", property(lambda _self: False, lambda _self, _value: None))

    class Always(dict):
        def pop(self, key, default=None):
            return 0 if key == name else default

    hub.cut = Always()
    assert f"{name}: the download broke off" in failure(tmp_path)
    assert len(hub.downloads(name)) == 5


def test_bytes_that_do_not_match_their_hash_are_thrown_away(hub, tmp_path, monkeypatch):
    name = largest_shard(hub)
    genuine = hub.etag
    monkeypatch.setattr(hub, "etag", lambda file: "0" * 64 if file == name else genuine(file), raising=False)
    message = failure(tmp_path)
    assert name in message
    assert "hash" in message
    assert not list(tmp_path.rglob("*.incomplete"))
    monkeypatch.undo()


def test_the_wrong_model_is_refused_before_its_weights_are_downloaded(hub, tmp_path, dense_architecture):
    from dataclasses import replace

    message = failure(tmp_path, expected=replace(dense_architecture, hidden_size=64))
    assert "hidden_size: expected 64 (spec), found 40" in message
    assert hub.downloads(largest_shard(hub)) == []


def test_text_files_are_looked_at_before_weights_are_downloaded(hub, tmp_path):
    seen = []

    def examine(assets):
        seen.append({name: path.read_bytes() for name, path in assets.items()})
        raise CheckpointError("not this tokenizer")

    assert failure(tmp_path, examine=examine) == "not this tokenizer"
    (assets,) = seen
    assert assets["tokenizer.json"] == hub.files["tokenizer.json"]
    assert not any(path.endswith(".safetensors") for _, path, _ in hub.served)


def test_a_repository_of_an_adapter_is_named_as_one(hub, tmp_path):
    hub.files = {
        "adapter_config.json": b'{"base_model_name_or_path": "Qwen/Qwen3-4B"}',
        "adapter_model.safetensors": b"",
    }
    assert "found an adapter of Qwen/Qwen3-4B" in failure(tmp_path)
    assert hub.downloads("adapter_model.safetensors") == []


def test_a_cached_revision_opens_without_the_hub(hub, tmp_path, monkeypatch):
    online = opened(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    unreachable = opened(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = opened(tmp_path)
    assert online.files() == unreachable.files() == offline.files()
    assert offline.revision == hub.commit


def test_unreachable_with_nothing_cached_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    message = failure(tmp_path)
    assert "cannot be reached" in message
    assert str(tmp_path) in message


def test_unreachable_with_half_a_copy_names_what_is_missing(hub, tmp_path, monkeypatch):
    name = largest_shard(hub)
    hub.cut[name] = 10
    failure(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    message = failure(tmp_path)
    assert "cannot be reached" in message
    assert name in message


@pytest.mark.parametrize(
    ("refuse", "said"),
    [
        ((401, "GatedRepo", "gated"), "gated"),
        ((403, "GatedRepo", "gated"), "gated"),
        ((401, "", "Invalid username or password."), "no such repository"),
        ((403, "", "Forbidden by policy"), "refused"),
        ((429, "", "slow down"), "refused"),
    ],
)
def test_a_refusal_is_reported_and_never_papered_over_by_the_cache(hub, tmp_path, refuse, said):
    opened(tmp_path)
    hub.refuse = refuse
    assert said in failure(tmp_path)


@pytest.mark.usefixtures("hub")
def test_an_unknown_repository_or_revision_is_named(tmp_path):
    assert "no such repository" in failure(tmp_path, "hf://test/absent@main")
    assert "no such revision" in failure(tmp_path, "hf://test/tiny@v9")


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("source", ["hf://test/a--b@main", "hf://test/tiny@a/../../b", "hf://test/tiny.git"])
def test_a_name_that_cannot_be_is_refused(tmp_path, source):
    assert "is not the name" in failure(tmp_path, source).replace("not the name of a repository", "is not the name")
    assert not list(tmp_path.iterdir())


def test_an_answer_that_is_not_the_hubs_is_one_line(hub, tmp_path):
    hub.commit = 5
    assert "not a commit hash" in failure(tmp_path)


def test_the_token_goes_to_the_hub_and_not_to_its_cdn(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    opened(tmp_path)
    tokens = {path.startswith("/cdn/"): token for path, token in hub.tokens.items()}
    assert tokens == {True: None, False: "Bearer hf_secret"}


def test_a_shard_that_the_repository_lacks_is_named(hub, tmp_path):
    name = largest_shard(hub)
    del hub.files[name]
    assert name in failure(tmp_path)


def test_a_server_cannot_choose_where_files_land(hub, tmp_path):
    hub.commit = "../../escape"
    assert "not a commit hash" in failure(tmp_path)
    assert not (tmp_path.parent / "escape").exists()


def test_a_tokenizer_may_come_from_another_repository(hub, tmp_path, dense_architecture):
    checkpoint = opened(tmp_path, "synthetic://1", expected=dense_architecture, tokenizer=SOURCE)
    assert {name: path.read_bytes() for name, path in checkpoint.assets().items()} == {
        name: hub.files[name] for name in ("tokenizer.json", "tokenizer_config.json")
    }
    assert hub.downloads(largest_shard(hub)) == []
