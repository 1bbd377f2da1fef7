"""A small server on loopback that speaks the endpoints of the Hugging Face Hub that its client calls.

Repositories are in memory: commits of files, branches and tags. Written after huggingface_hub 2.4, whose client is the
real one in the tests. Files that are no text go by Git LFS; Xet storage is not spoken.
"""

import base64
import hashlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

TOKEN = "hf_test"
_LARGE = (".safetensors", ".tar", ".parquet")
_REPOSITORY = r"(?P<id>[\w.-]+/[\w.-]+)"


class HubServer(ThreadingHTTPServer):
    """The server; `repositories` maps models/ORG/NAME and datasets/ORG/NAME to commits, oldest first.

    Attributes:
        repositories: commits, each the files of the repository by path.
        references: revisions by repository: names of branches and tags to the number of a commit.
        private: repositories that need the token.
        requests: method and path of every request.
        file_bytes: bytes of files that were sent.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.references: dict[str, dict[str, int]] = defaultdict(dict)
        self.private: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.file_bytes = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repository: str, files: dict[str, bytes], tag: str | None = None) -> str:
        """Adds a commit on the main branch, which keeps other files; gives its hash."""
        commits = self.repositories.setdefault(repository, [])
        commits.append({**(commits[-1] if commits else {}), **files})
        for name in filter(None, ("main", tag)):
            self.references[repository][name] = len(commits) - 1
        return commit_hash(repository, len(commits) - 1)


def commit_hash(repository: str, number: int) -> str:
    return hashlib.sha1(f"{repository} {number}".encode()).hexdigest()


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """Context with a server that answers."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The hub of this process, with a token and an empty cache."""
    from huggingface_hub import constants

    with running_hub() as server:
        files = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)  # as HF_ENDPOINT does before the import
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


class _RefusedError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def log_message(self, *arguments: Any) -> None:
        pass

    def _answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{method} {path}")
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            for verbs, pattern, name in _ROUTES:
                found = re.fullmatch(pattern, path)
                if method in verbs and found:
                    getattr(self, name)(**found.groupdict())
                    return
            raise _RefusedError(404, message=f"this server has no {method} {path}")
        except _RefusedError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": error.message}
            self._send({"error": error.message}, error.status, {key: text for key, text in headers.items() if text})

    def _send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, text in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # What a repository is, for whoever asks.

    @property
    def _has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _need_token(self) -> None:
        if not self._has_token:
            raise _RefusedError(401, message="Invalid credentials in Authorization header")

    def _find(self, kind: str, repository: str, revision: str | None) -> tuple[str, int, dict[str, bytes]]:
        name = f"{kind}/{repository}"
        if name not in self.server.repositories or (name in self.server.private and not self._has_token):
            raise _RefusedError(404 if self._has_token else 401, "RepoNotFound", "Repository not found")
        commits = self.server.repositories[name]
        numbers = {commit_hash(name, number): number for number in range(len(commits))}
        number = (numbers | self.server.references[name]).get(revision or "main")
        if number is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return name, number, commits[number]

    # Endpoints.

    def create(self) -> None:
        self._need_token()
        request = json.loads(self._body)
        name = f"{request['organization']}/{request['name']}"
        if f"models/{name}" in self.server.repositories:
            raise _RefusedError(409, message="You already created this model repo")
        self.server.repositories[f"models/{name}"] = [{".gitattributes": b""}]
        self.server.references[f"models/{name}"]["main"] = 0
        if request.get("visibility") == "private":
            self.server.private.add(f"models/{name}")
        self._send({"url": f"{self.server.url}/{name}"})

    def validate_card(self) -> None:
        bad = "license: no-such-license" in json.loads(self._body)["content"]
        errors = [{"message": '"license" must be one of those that the hub knows'}] if bad else []
        self._send({"errors": errors, "warnings": []}, 400 if bad else 200)

    def preupload(self, id: str, revision: str) -> None:
        self._need_token()
        self._find("models", id, revision)
        paths = [one["path"] for one in json.loads(self._body)["files"]]
        modes = {path: "lfs" if path.endswith(_LARGE) else "regular" for path in paths}
        files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
        self._send({"files": files})

    def lfs_batch(self, id: str) -> None:
        self._need_token()
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}}
            for one in json.loads(self._body)["objects"]
        ]
        self._send({"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid: str) -> None:
        if hashlib.sha256(self._body).hexdigest() != oid:
            raise _RefusedError(422, message="other content")
        self.server.blobs[oid] = self._body
        self._send(b"")

    def receive_commit(self, id: str, revision: str) -> None:
        self._need_token()
        name, _, _ = self._find("models", id, revision)
        files = {}
        for line in self._body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        found = self.server.commit(name, files)
        self._send({"commitUrl": f"{self.server.url}/{id}/commit/{found}", "commitOid": found, "pullRequestUrl": None})

    def info(self, kind: str, id: str, revision: str | None = None) -> None:
        name, number, files = self._find(kind, id, revision)
        siblings = [{"rfilename": path} for path in files]
        self._send({"id": id, "sha": commit_hash(name, number), "private": False, "tags": [], "siblings": siblings})

    def tree(self, kind: str, id: str, revision: str, folder: str | None = None) -> None:
        _, _, files = self._find(kind, id, revision)
        start = f"{folder}/" if folder else ""
        everything = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
        found = [_describe(path, data) for path, data in files.items() if path.startswith(start)]
        rests = [path.removeprefix(start) for path in files if path.startswith(start)]
        folders = {start + rest.partition("/")[0] for rest in rests if "/" in rest}
        if not everything:
            found = [one for one in found if "/" not in one["path"][len(start) :]]
            found += [{"type": "directory", "oid": 40 * "0", "size": 0, "path": one} for one in sorted(folders)]
        if folder and not found:
            raise _RefusedError(404, "EntryNotFound", f"{folder} does not exist")
        self._send(found)

    def paths(self, kind: str, id: str, revision: str) -> None:
        _, _, files = self._find(kind, id, revision)
        wanted = parse_qs(self._body.decode())["paths"]
        self._send([_describe(path, files[path]) for path in wanted if path in files])

    def file(self, id: str, revision: str, path: str, kind: str | None = None) -> None:
        name, number, files = self._find((kind or "models/").rstrip("/"), id, revision)
        if path not in files:
            raise _RefusedError(404, "EntryNotFound", f"{path} does not exist")
        data = files[path]
        headers = {"X-Repo-Commit": commit_hash(name, number), "ETag": f'"{_describe(path, data)["oid"]}"'}
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if found is None:
            self._send(data, 200, headers)
            return
        start, end = int(found[1]), min(int(found[2]) + 1, len(data))
        if start >= len(data):
            raise _RefusedError(416, message="Range not satisfiable")
        self.server.file_bytes += end - start
        self._send(data[start:end], 206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"})


def _describe(path: str, data: bytes) -> dict[str, Any]:
    """A file as the endpoint `tree` has it."""
    blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    described: dict[str, Any] = {"type": "file", "oid": blob, "size": len(data), "path": path}
    if path.endswith(_LARGE):
        described["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return described


_KIND = r"(?P<kind>models|datasets)"
_ROUTES = [
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate_card"),
    ("POST", rf"/api/models/{_REPOSITORY}/preupload/(?P<revision>.+)", "preupload"),
    ("POST", rf"/api/models/{_REPOSITORY}/commit/(?P<revision>.+)", "receive_commit"),
    ("POST", rf"/{_REPOSITORY}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs/(?P<oid>\w+)", "lfs_upload"),
    ("GET", rf"/api/{_KIND}/{_REPOSITORY}(?:/revision/(?P<revision>.+))?", "info"),
    ("GET", rf"/api/{_KIND}/{_REPOSITORY}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", "tree"),
    ("POST", rf"/api/{_KIND}/{_REPOSITORY}/paths-info/(?P<revision>.+)", "paths"),
    (("GET", "HEAD"), rf"/(?P<kind>datasets/)?{_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "file"),
]
