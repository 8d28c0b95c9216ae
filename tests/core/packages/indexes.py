"""A Python index and an npm registry on the loopback, and packages that tell when they are run."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from facemorph_core.packages import Release

NUMBERS = b"numbers"


def tarred(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def source_archive(folder: Path, *, told: Path) -> Path:
    """As setuptools makes one, with a setup.py that would write ``told``."""
    facts = b"Metadata-Version: 2.1\nName: toy-net\nVersion: 1.0\n"
    setup = f"import pathlib, setuptools\npathlib.Path({str(told)!r}).touch()\nsetuptools.setup()"
    members = {"PKG-INFO": facts, "setup.py": setup.encode(), "toy_net/net.bin": NUMBERS}
    named = {f"toy_net-1.0/{name}": data for name, data in members.items()}
    return tarred(folder / "toy_net-1.0.tar.gz", named)


def wheel(folder: Path) -> Path:
    path = folder / "toy_net-1.0-py3-none-any.whl"
    info = "toy_net-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as files:
        files.writestr("toy_net/net.bin", NUMBERS)
        files.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-net\nVersion: 1.0\n")
        files.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        files.writestr(f"{info}/RECORD", "")
    return path


def npm_package(folder: Path, *, told: Path) -> Path:
    """With scripts for every occasion that npm knows, which would write ``told``."""
    occasions = ("preinstall", "install", "postinstall", "prepare", "prepack", "postpack")
    scripts = dict.fromkeys(occasions, f"touch {told}")
    facts = {"name": "@toys/net", "version": "1.0.0", "scripts": scripts}
    members = {"package.json": json.dumps(facts).encode(), "net.bin": NUMBERS}
    named = {f"package/{name}": data for name, data in members.items()}
    return tarred(folder / "net-1.0.0.tgz", named)


def release_of(archive: Path, name: str = "toy-net", version: str = "1.0") -> Release:
    return Release(name, version, sha256=hashlib.sha256(archive.read_bytes()).hexdigest())


@contextlib.contextmanager
def serving(answers: Mapping[str, tuple[str, bytes]]) -> Iterator[tuple[str, list[str]]]:
    """Its URL and the paths that were asked for; an answer is its type and what it holds."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            kind, data = answers.get(self.path, ("text/plain", b""))
            self.send_response(200 if self.path in answers else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def simple_index(**projects: Path) -> dict[str, tuple[str, bytes]]:
    """Pages of PEP 503, and the archive of each project (its name with _ for -)."""
    answers = {}
    for name, archive in projects.items():
        project = name.replace("_", "-")
        page = f'<a href="/files/{archive.name}">{archive.name}</a>'
        answers[f"/simple/{project}/"] = "text/html", page.encode()
        answers[f"/files/{archive.name}"] = "application/octet-stream", archive.read_bytes()
    return answers


def npm_registry(archive: Path, url: str) -> dict[str, tuple[str, bytes]]:
    """What npm asks a registry at ``url`` for, of one package."""
    data = archive.read_bytes()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    dist = {"tarball": f"{url}/{archive.name}", "integrity": integrity}
    one = {"name": "@toys/net", "version": "1.0.0", "dist": dist}
    facts = {"name": "@toys/net", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": one}}
    described = "application/json", json.dumps(facts).encode()
    return {"/@toys%2fnet": described, f"/{archive.name}": ("application/octet-stream", data)}
