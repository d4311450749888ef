"""Downloads by HTTP from a server on this machine: resuming, checksums, free space."""

import hashlib
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from espnet2_tfckd.corpora import download
from espnet2_tfckd.corpora.download import RemoteZip, fetch_zips

CONTENT = bytes(range(256)) * 4000
ZIP = RemoteZip("a.zip", len(CONTENT), hashlib.md5(CONTENT).hexdigest())


@pytest.fixture
def server(monkeypatch):
    """A server of ``/files/a.zip`` whose manners can be set; it notes the ranges asked for."""
    state = SimpleNamespace(ranges=[], knows_ranges=True, break_off=0, content=CONTENT)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/files/a.zip":
                self.send_error(404)
                return
            asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked[1]) if asked and state.knows_ranges else 0
            state.ranges.append(asked and int(asked[1]))
            if start >= len(state.content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(state.content) - start))
            self.end_headers()
            end = len(state.content)
            if state.break_off:
                end, state.break_off = start + state.break_off, 0
            self.wfile.write(state.content[start:end])

        def log_message(self, *_):
            pass

    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=[0.01], daemon=True).start()
    state.url = f"http://127.0.0.1:{httpd.server_port}/files"
    yield state
    httpd.shutdown()


def test_a_download_goes_on_where_the_connection_broke_off(server, tmp_path):
    server.break_off = 300_000
    fetch_zips([ZIP], server.url, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.ranges == [None, 300_000]
    assert os.listdir(tmp_path) == ["a.zip"]


def test_a_killed_download_goes_on_in_the_next_run(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:500_000])
    fetch_zips([ZIP], server.url + "/", tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.ranges == [500_000]


def test_a_download_killed_after_its_last_byte_is_only_checked(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    fetch_zips([ZIP], server.url, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_everything_again(server, tmp_path):
    server.knows_ranges = False
    (tmp_path / "a.zip.part").write_bytes(b"x" * 500_000)
    fetch_zips([ZIP], server.url, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_file_that_is_there_is_not_fetched(server, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"own")
    fetch_zips([ZIP], server.url, tmp_path)
    assert server.ranges == []


def test_another_file_under_that_name_is_refused_and_deleted(server, tmp_path):
    server.content = b"<html>sign in</html>"
    with pytest.raises(RuntimeError, match=f"gave 20 bytes with md5 .* instead of {ZIP.md5}"):
        fetch_zips([ZIP], server.url, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_wrong_address_is_named_with_the_remedy(server, tmp_path):
    with pytest.raises(RuntimeError, match="(?s)b.zip cannot be fetched.*404.*--source_url"):
        fetch_zips([ZIP._replace(name="b.zip")], server.url, tmp_path)


def test_too_little_space_is_noticed_first(server, tmp_path):
    huge = ZIP._replace(bytes=10**18)
    with pytest.raises(OSError, match="GB are needed and .* GB free: make room"):
        fetch_zips([huge], server.url, tmp_path)
    assert server.ranges == []
