"""A server that speaks the hub's API, for tests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """One repository, `test/tiny`, whose branch `main` points to `commit`; large files are redirected to a CDN.

    `cut` maps a file to the number of bytes after which the next download of it breaks off; `down` answers 503 to
    every download; `refuse` is a status, error code and message for every request; without `ranges` a download is
    always the whole file.
    """

    files: dict[str, bytes]
    commit: str = "c0ffee" * 6 + "abcd"
    cut: dict[str, int] = field(default_factory=dict)
    down: bool = False
    ranges: bool = True
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
        siblings = [{"rfilename": name, "size": len(content)} for name, content in self.hub.files.items()]
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
        if (sought := self.headers.get("Range")) is not None and hub.ranges:
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


@contextlib.contextmanager
def served(files: dict[str, bytes]):
    """Serve one repository; yields its state and its address."""
    state = Hub(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
