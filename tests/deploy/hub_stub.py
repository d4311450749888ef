"""A hub on localhost: what publishing and fetching use of the Hugging Face hub's interface."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "0" * 40


class Hub:
    """What the stub has been sent.

    Attributes:
        repositories: Files of each repository by its id.
        revision: The commit that all of them are at.
        downloads: Names of the files that were asked for.
    """

    def __init__(self):
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.revision = SHA
        self.downloads: list[str] = []


def _handler(hub: Hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, content=b"", status=200, **headers):
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def body(self):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def do_POST(self):
            body = self.body()
            if self.path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if "Authorization" not in self.headers:
                return self.answer({"error": "log in first"}, 401)
            if self.path == "/api/repos/create":
                request = json.loads(body)
                name = "/".join(filter(None, (request.get("organization"), request["name"])))
                if name in hub.repositories:
                    return self.answer({"error": "exists", "url": self.address(name)}, 409)
                hub.repositories[name] = {}
                return self.answer({"url": self.address(name), "name": name, "id": "1"})
            repository = "/".join(self.path.split("/")[3:5])
            if "/preupload/" in self.path:
                files = json.loads(body)["files"]
                modes = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in files
                ]
                return self.answer({"files": modes})
            if "/commit/" in self.path:
                for line in body.decode().splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        content = base64.b64decode(entry["value"]["content"])
                        hub.repositories[repository][entry["value"]["path"]] = content
                commit = {"commitUrl": f"{self.address(repository)}/commit/{SHA}", "commitOid": SHA}
                return self.answer({**commit, "hookOutput": "", "success": True})
            return self.answer({"error": f"unknown {self.path}"}, 404)

        def do_GET(self):
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                repository = "/".join(parts[2:4])
                files = hub.repositories.get(repository)
                if files is None:
                    return self.answer({"error": "no such repository"}, 404)
                if "tree" in parts:
                    kinds = {"type": "file", "oid": SHA}
                    return self.answer(
                        [{**kinds, "path": name, "size": len(c)} for name, c in files.items()]
                    )
                listing = [{"rfilename": name, "size": len(c)} for name, c in files.items()]
                return self.answer({"id": repository, "sha": hub.revision, "siblings": listing})
            if len(parts) > 4 and parts[2] == "resolve":
                content = hub.repositories["/".join(parts[:2])].get("/".join(parts[4:]))
                if content is not None:
                    if self.command == "GET":
                        hub.downloads.append("/".join(parts[4:]))
                    tag = hashlib.sha1(content).hexdigest()
                    return self.answer(content, ETag=f'"{tag}"', X_Repo_Commit=hub.revision)
            return self.answer({"error": f"unknown {self.path}"}, 404)

        do_HEAD = do_GET

        def address(self, name):
            return f"http://{self.headers['Host']}/{name}"

    return Handler


@contextmanager
def running_hub():
    """Yield the hub and its address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
