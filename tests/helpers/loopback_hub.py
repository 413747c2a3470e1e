"""A small Hugging Face Hub on loopback: repositories of files in memory, faults on demand, and a record of all requests."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".bin", ".h5")


@dataclasses.dataclass
class Faults:
    """What goes wrong.

    Attributes:
        cut: names of files whose first download is cut after half of the bytes.
        changed: names of files whose content differs from their hash.
        sizes: sizes that the list of files gives, in place of the true ones.
        denied: repositories whose status and X-Error-Code are these.
    """

    cut: set[str] = dataclasses.field(default_factory=set)
    changed: set[str] = dataclasses.field(default_factory=set)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    denied: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)


class Hub:
    """Serves repositories until `close`.

    Attributes:
        files: content by repository, commit and name.
        branches: commit by repository and branch.
        requests: method, path and headers (by names in lower case) of every request.
        faults: what goes wrong.
        redirect: the address of another server that holds the large files; None to serve them here.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], dict[str, bytes]] = {}
        self.branches: dict[tuple[str, str], str] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults = Faults()
        self.redirect: str | None = None
        hub = self

        class Handler(_Handler):
            served = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def add(self, repository: str, folder: Path, commit: str = COMMIT, **more: bytes) -> None:
        """Adds the files of a folder as a commit, to which `main` points from now on."""
        files = {f.relative_to(folder).as_posix(): f.read_bytes() for f in Path(folder).rglob("*") if f.is_file()}
        self.files[repository, commit] = files | more
        self.branches[repository, "main"] = commit

    def environment(self, home: Path) -> dict[str, str]:
        """Returns the variables with which a process uses this hub and a cache of its own."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}

    def asked(self, *methods: str) -> list[str]:
        """Returns the paths of the requests with these methods."""
        return [path for method, path, _ in self.requests if method in methods]

    def close(self) -> None:
        """Stops the server."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        hub, path = self.served, unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path):
            repository, kind, revision = found.groups()
            commit = self._commit(repository, revision)
            if commit is None:
                return
            files = hub.files[repository, commit]
            listed = [self._entry(name, content) for name, content in files.items()]
            content = {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            self._send(json.dumps(listed if kind == "tree" else content).encode(), {"Content-Type": "application/json"})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repository, revision, name = found.groups()
            commit = self._commit(repository, revision)
            if commit is not None:
                self._file(name, hub.files[repository, commit], commit, body)
        else:
            self._send(b"", {}, 404)

    def _commit(self, repository: str, revision: str) -> str | None:
        hub = self.served
        if repository in hub.faults.denied:
            status, code = hub.faults.denied[repository]
            self._send(b"", {"X-Error-Code": code, "X-Error-Message": f"Access to {repository} is restricted."}, status)
            return None
        if not any(known == repository for known, _ in hub.files):
            self._send(b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, 404)
            return None
        commit = hub.branches.get((repository, revision), revision)
        if (repository, commit) not in hub.files:
            self._send(b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, 404)
            return None
        return commit

    def _entry(self, name: str, content: bytes) -> dict[str, object]:
        size = self.served.faults.sizes.get(name, len(content))
        entry: dict[str, object] = {"type": "file", "path": name, "size": size, "oid": _git(content)}
        if name.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 130}
        return entry

    def _file(self, name: str, files: dict[str, bytes], commit: str, body: bool) -> None:
        hub = self.served
        if name not in files:
            self._send(b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, 404)
            return
        content = files[name]
        digest = hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else _git(content)
        head = {"ETag": f'"{digest}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if hub.redirect and name.endswith(LARGE):
            linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            self._send(b"", head | linked | {"Location": f"{hub.redirect}{self.path}"}, 302)
            return
        if name in hub.faults.changed:
            content = bytes([content[0] ^ 1]) + content[1:]
        start, status = 0, 200
        if body and (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start, status = int(asked[1]), 206
            head["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = body and name in hub.faults.cut
        hub.faults.cut.discard(name) if cut else None
        self._send(content[start:], head, status, sent=len(content) // 2 if cut else None)

    def _send(self, content: bytes, head: dict[str, str], status: int = 200, sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **head}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if sent is None else content[:sent])
        if sent is not None:
            self.close_connection = True


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
