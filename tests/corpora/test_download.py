"""Downloads by HTTP from servers on this machine: resuming, several addresses, checksums, space."""

import hashlib
import io
import os
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from espnet2_tfckd.corpora import download, vctk_noisy
from espnet2_tfckd.corpora.download import OVERLAP, RemoteZip, fetch_zips
from espnet2_tfckd.data.locking import LOCK

PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>" * 40


def make_zip(seed):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.wav", np.random.default_rng(seed).bytes(1_000_000))
    return buffer.getvalue()


CONTENT, OTHER = make_zip(1), make_zip(2)
ZIP = RemoteZip("a.zip", len(CONTENT), hashlib.md5(CONTENT).hexdigest(), ())
SHORTER = 500_000


@pytest.fixture
def server(monkeypatch):
    """A server whose manners can be set path by path; it notes the ranges it is asked for.

    ``/old/a.zip`` and ``/new/content`` have the zip; others answer 404 with a page.
    """
    state = SimpleNamespace(old=manners(), new=manners())
    paths = {"/old/a.zip": state.old, "/new/content": state.new}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            file = paths.get(self.path, manners(status=404))
            asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            file.ranges.append(asked and int(asked[1]))
            if file.location:
                self.send_response(302)
                self.send_header("Location", file.location)
                self.end_headers()
                return
            if file.status != 200 or file.content == PAGE:
                self.answer(file.status, PAGE, "text/html;charset=UTF-8")
                return
            start = int(asked[1]) if asked and file.knows_ranges else 0
            if start >= len(file.content):
                self.answer(416, PAGE, "text/html")
                return
            end = len(file.content)
            if file.break_off:
                end = start + file.break_off.pop(0)
            self.answer(
                206 if start else 200,
                file.content[start:end],
                "application/octet-stream",
                len(file.content) - start if file.says_length else None,
            )

        def answer(self, status, body, kind, length=None):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if length:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    monkeypatch.setattr(download, "BLOCK", 5000)  # many of them
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=[0.01], daemon=True).start()
    address = f"http://127.0.0.1:{httpd.server_port}"
    state.folder = f"{address}/old"
    state.urls = (f"{address}/new/content", f"{address}/old/a.zip")
    state.zip = ZIP._replace(urls=state.urls)
    yield state
    httpd.shutdown()


def manners(**settings):
    defaults = {"status": 200, "content": CONTENT, "location": None, "break_off": []}
    defaults |= {"knows_ranges": True, "says_length": True, "ranges": []}
    return SimpleNamespace(**defaults | settings)


def files(folder):
    return sorted(set(os.listdir(folder)) - {LOCK})


def fetched(folder):
    """Contents of the zip, which must be alone in its folder."""
    assert files(folder) == ["a.zip"]
    return (folder / "a.zip").read_bytes()


class TestOneAddress:
    def test_a_download_goes_on_where_the_connection_broke_off(self, server, tmp_path):
        server.old.break_off = [300_000]
        fetch_zips([ZIP], tmp_path, server.folder)
        assert fetched(tmp_path) == CONTENT
        assert server.old.ranges == [None, 300_000 - OVERLAP]

    def test_a_killed_download_goes_on_in_the_next_run(self, server, tmp_path):
        (tmp_path / "a.zip.part").write_bytes(CONTENT[:SHORTER])
        fetch_zips([ZIP], tmp_path, server.folder + "/")
        assert fetched(tmp_path) == CONTENT
        assert server.old.ranges == [SHORTER - OVERLAP]

    def test_a_download_killed_after_its_last_byte_is_only_checked(self, server, tmp_path):
        (tmp_path / "a.zip.part").write_bytes(CONTENT)
        fetch_zips([ZIP], tmp_path, server.folder)
        assert fetched(tmp_path) == CONTENT
        assert server.old.ranges == []

    @pytest.mark.parametrize("says_length", [True, False])
    @pytest.mark.parametrize("knows_ranges", [True, False])
    def test_no_length_and_no_ranges_do_no_harm(self, server, tmp_path, says_length, knows_ranges):
        server.old.says_length, server.old.knows_ranges = says_length, knows_ranges
        server.old.break_off = [400_000, 100_000, 700_000]
        fetch_zips([ZIP], tmp_path, server.folder)
        assert fetched(tmp_path) == CONTENT

    def test_a_file_that_is_there_is_not_fetched(self, server, tmp_path):
        (tmp_path / "a.zip").write_bytes(b"own")
        fetch_zips([ZIP], tmp_path, server.folder)
        assert server.old.ranges == []

    def test_another_zip_is_refused_and_leaves_nothing(self, server, tmp_path):
        server.old.content = OTHER
        message = f"a.zip: {len(OTHER)} bytes with md5 .* instead of {ZIP.md5}"
        with pytest.raises(RuntimeError, match=message):
            fetch_zips([ZIP], tmp_path, server.folder)
        assert files(tmp_path) == []

    def test_it_alone_is_used_and_named_with_the_remedy(self, server, tmp_path):
        wanted = server.zip._replace(name="b.zip")
        with pytest.raises(RuntimeError, match=r"(?s)old/b.zip: HTTP Error 404.*--source_url"):
            fetch_zips([wanted], tmp_path, server.folder)
        assert server.new.ranges == []

    def test_too_little_space_is_noticed_first(self, server, tmp_path):
        huge = ZIP._replace(bytes=10**18)
        with pytest.raises(OSError, match="GB are needed and .* GB free: make room"):
            fetch_zips([huge], tmp_path, server.folder)
        assert server.old.ranges == []


NOT_THE_ZIP = {
    "page with status 200": {"content": PAGE},
    "page with status 404": {"status": 404},
    "page with status 403": {"status": 403},
    "server that is down": {"status": 503},
    "another zip": {"content": OTHER},
    "half of the zip": {"content": CONTENT[: SHORTER // 2]},
}


class TestSeveralAddresses:
    def test_the_first_that_has_the_file_is_enough(self, server, tmp_path):
        fetch_zips([server.zip], tmp_path)
        assert fetched(tmp_path) == CONTENT
        assert (len(server.new.ranges), len(server.old.ranges)) == (1, 0)

    @pytest.mark.parametrize("begun", [0, SHORTER])
    @pytest.mark.parametrize("fault", NOT_THE_ZIP.values(), ids=NOT_THE_ZIP)
    def test_the_next_is_tried_and_goes_on_with_what_was_there(
        self, server, tmp_path, fault, begun
    ):
        if begun:
            (tmp_path / "a.zip.part").write_bytes(CONTENT[:begun])
        vars(server.new).update(fault)
        fetch_zips([server.zip], tmp_path)
        assert fetched(tmp_path) == CONTENT
        if begun:
            assert server.old.ranges == [SHORTER - OVERLAP]

    def test_a_redirected_address_goes_on_as_well(self, server, tmp_path):
        server.new.location = server.urls[1]
        (tmp_path / "a.zip.part").write_bytes(CONTENT[:SHORTER])
        fetch_zips([server.zip._replace(urls=server.urls[:1])], tmp_path)
        assert fetched(tmp_path) == CONTENT
        assert server.old.ranges == [SHORTER - OVERLAP]

    @pytest.mark.parametrize("knows_ranges", [True, False])
    def test_what_one_did_not_finish_is_finished_by_the_next(self, server, tmp_path, knows_ranges):
        server.new.says_length = server.new.knows_ranges = False
        server.new.break_off = [200_000, 300_000, 100_000, 300_000, 200_000]
        server.old.knows_ranges = knows_ranges
        fetch_zips([server.zip], tmp_path)
        assert fetched(tmp_path) == CONTENT
        assert server.old.ranges == [300_000 - OVERLAP]

    def test_if_none_has_it_all_are_named_and_the_part_is_kept(self, server, tmp_path):
        part = tmp_path / "a.zip.part"
        part.write_bytes(CONTENT[:SHORTER])
        server.new.content, server.old.content = PAGE, OTHER
        with pytest.raises(RuntimeError) as refusal:
            fetch_zips([server.zip], tmp_path)
        text = str(refusal.value)
        assert f"{server.urls[0]}: status 200 with text/html, which is not a zip" in text
        assert f"{server.urls[1]}: another file than that of which {SHORTER} bytes" in text
        assert f"goes on from {part}; delete that to start again" in text
        assert "give another --source_url, or put a.zip into" in text
        assert part.read_bytes() == CONTENT[:SHORTER]

    def test_bytes_that_turn_out_wrong_are_taken_away_again(self, server, tmp_path):
        part = tmp_path / "a.zip.part"
        part.write_bytes(CONTENT[:SHORTER])
        server.new.content = CONTENT[:-100_000] + OTHER[-100_000:]
        server.old.status = 404
        with pytest.raises(RuntimeError, match=f"content: {len(CONTENT)} bytes with md5"):
            fetch_zips([server.zip], tmp_path)
        assert part.read_bytes() == CONTENT[:SHORTER]


def test_voicebank_has_two_addresses_a_file():
    for wanted in vctk_noisy.ZIPS:
        new, old = wanted.urls
        assert re.fullmatch(r"https://[\w.]+/server/api/core/bitstreams/[0-9a-f-]{36}/content", new)
        assert old.endswith(f"/bitstream/handle/10283/2791/{wanted.name}")
    assert len({url for wanted in vctk_noisy.ZIPS for url in wanted.urls}) == 8
