"""Tiny checkpoints as transformers writes them, and a server that speaks the hub's API."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import torch

from qwen3_graphs.architecture import Architecture

if TYPE_CHECKING:
    from pathlib import Path

DIMENSIONS = {
    "vocab_size": 96,
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "rope_theta": 1e6,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True}


def _transformers_config(kind: str, *, tied: bool):
    from transformers import Qwen3Config, Qwen3MoeConfig

    values = dict(DIMENSIONS)
    values["rope_parameters"] = {"rope_type": "default", "rope_theta": values.pop("rope_theta")}
    if kind == "dense":
        return Qwen3Config(**values, tie_word_embeddings=tied)
    return Qwen3MoeConfig(**values, **EXPERTS, tie_word_embeddings=tied)


@pytest.fixture(scope="session")
def make_model():
    """A random transformers model: make_model("dense" | "moe", tied=..., dtype=...)."""

    def make(kind="dense", *, tied=False, dtype=torch.bfloat16):
        from transformers import Qwen3ForCausalLM, Qwen3MoeForCausalLM

        torch.manual_seed(7)
        causal = Qwen3ForCausalLM if kind == "dense" else Qwen3MoeForCausalLM
        model = causal(_transformers_config(kind, tied=tied)).to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        return model

    return make


@pytest.fixture(scope="session")
def dense_folder(make_model, tmp_path_factory) -> Path:
    """An untied dense bfloat16 model in one file. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("dense")
    make_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sharded_folder(make_model, tmp_path_factory) -> Path:
    """The same model in several shards. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("sharded")
    make_model().save_pretrained(folder, max_shard_size="40KB")
    return folder


@pytest.fixture
def dense_architecture() -> Architecture:
    return Architecture(**DIMENSIONS, tie_word_embeddings=False)


@pytest.fixture
def moe_architecture() -> Architecture:
    return Architecture(**DIMENSIONS, **EXPERTS, tie_word_embeddings=False)


@dataclass
class Hub:
    """One repository, `test/tiny`, whose branch `main` points to `commit`; large files are redirected to a CDN.

    `cut` maps a file to the number of bytes after which the next download of it breaks off; `down` answers 503 to
    every download; `refuse` is a status, error code and message for every request.
    """

    files: dict[str, bytes]
    commit: str = "c0ffee" * 6 + "abcd"
    cut: dict[str, int] = field(default_factory=dict)
    down: bool = False
    refuse: tuple[int, str, str] | None = None
    served: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range
    tokens: dict[str, str | None] = field(default_factory=dict)  # path: Authorization
    sent: int = 0

    def etag(self, name: str) -> str:
        """Large files are addressed by SHA-256, small ones by their git blob."""
        content = self.files[name]
        if name.endswith(".safetensors"):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def downloads(self, name: str) -> list[str | None]:
        """The Range header of every GET that sent bytes of the file `name`."""
        place = "/cdn/" if name.endswith(".safetensors") else f"/resolve/{self.commit}/"
        return [sought for method, path, sought in self.served if method == "GET" and path.endswith(place + name)]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body: bool):
        hub, path = self.hub, self.path.split("?")[0]
        hub.served.append((self.command, path, self.headers.get("Range")))
        hub.tokens[path] = self.headers.get("Authorization")
        if hub.refuse is not None:
            status, code, message = hub.refuse
            self._reply(status, b"", {"X-Error-Code": code, "X-Error-Message": message}, body=body)
        elif path.startswith("/api/models/test/tiny/revision/"):
            self._info(path.rsplit("/", 1)[1], body=body)
        elif path.startswith((f"/test/tiny/resolve/{hub.commit}/", "/cdn/")) and path.rsplit("/", 1)[1] in hub.files:
            name = path.rsplit("/", 1)[1]
            if name.endswith(".safetensors") and not path.startswith("/cdn/"):
                self._redirect(name, body=body)
            else:
                self._file(name, body=body)
        else:
            self._reply(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)

    def _info(self, revision: str, *, body: bool):
        if revision not in ("main", self.hub.commit):
            self._reply(404, b"", {"X-Error-Code": "RevisionNotFound"}, body=body)
            return
        siblings = [{"rfilename": name} for name in self.hub.files]
        info = {"_id": "0", "id": "test/tiny", "sha": self.hub.commit, "siblings": siblings}
        self._reply(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body=body)

    def _redirect(self, name: str, *, body: bool):
        headers = {
            "Location": f"http://localhost:{self.server.server_port}/cdn/{name}",  # another host than 127.0.0.1
            "X-Linked-ETag": f'"{self.hub.etag(name)}"',
            "X-Linked-Size": str(len(self.hub.files[name])),
            "X-Repo-Commit": self.hub.commit,
        }
        self._reply(302, b"", headers, body=body)

    def _file(self, name: str, *, body: bool):
        hub, content = self.hub, self.hub.files[name]
        headers = {"ETag": f'"{hub.etag(name)}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
        if body and hub.down:
            self._reply(503, b"", {}, body=body)
            return
        begin = 0
        if (sought := self.headers.get("Range")) is not None:
            begin = int(sought.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        cut = hub.cut.pop(name, None) if body else None
        self._reply(206 if begin else 200, content[begin:], headers, body=body, cut=cut)

    def _reply(self, status: int, content: bytes, headers: dict[str, str], *, body: bool, cut: int | None = None):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[:cut])
            self.hub.sent += len(content[:cut])
        if cut is not None:
            self.hub.down = True
            self.close_connection = True

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def hub(sharded_folder, monkeypatch):
    """A hub that holds the sharded model, its tokenizer files, and a file that no build needs."""
    files = {path.name: path.read_bytes() for path in sharded_folder.iterdir()}
    files |= {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}", "original.pth": b"not needed"}
    state = Hub(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # The library's pause between attempts within one run.
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _seconds: None)
    # The library keeps what it received in whole chunks, of 10 MB unless told.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
