"""A file is complete or absent."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from gauntlet.errors import UserError
from gauntlet.files import beginning, write_atomically


@pytest.mark.parametrize(
    ("content", "stored"), [("ρ ≤ ε\n", "ρ ≤ ε\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")]
)
def test_text_and_bytes_are_stored_as_they_are(tmp_path, content, stored):
    write_atomically(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == stored


def test_missing_folders_are_made(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "file", "x")
    assert (tmp_path / "a" / "b" / "file").read_text() == "x"


def test_the_new_file_replaces_the_old_and_leaves_nothing_beside_it(tmp_path):
    write_atomically(tmp_path / "file", "a long first content")
    write_atomically(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600), (0, 0o666)])
def test_permissions_follow_the_umask(tmp_path, umask, expected):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", "x")
        write_atomically(tmp_path / "file", "replaced")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected


def test_a_file_with_this_content_is_left_alone(tmp_path, monkeypatch):
    write_atomically(tmp_path / "file", "same")
    before = (tmp_path / "file").stat()
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("written again"))
    write_atomically(tmp_path / "file", "same")
    assert (tmp_path / "file").stat() == before


def test_bytes_of_a_file_name_that_are_no_utf8_can_be_written_as_text(tmp_path):
    name = os.fsdecode(b"l\xe4ufe")
    write_atomically(tmp_path / "file", f"in {name}")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "in l\\udce4ufe"


def test_text_is_utf8_in_every_locale(tmp_path):
    write_atomically(tmp_path / "file.json", '{"name": "Läufe"}')
    script = "import sys, pathlib, gauntlet.files as f; print(ascii(f.read_json(pathlib.Path(sys.argv[1]))))"
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", script, tmp_path / "file.json"]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    assert done.stdout == "{'name': 'L\\xe4ufe'}\n"


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    write_atomically(tmp_path / "file", "old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "file", 3)
    assert (tmp_path / "file").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_failure_while_renaming_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"folder could not be written \(Is a directory\): choose another folder"):
        write_atomically(tmp_path / "folder", "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_place_below_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"below could not be written \(.*/file is a file\): choose another folder"):
        write_atomically(tmp_path / "file" / "below", "y")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"\n  <!DOCTYPE HTML><html>", "it is a web page"),
        (b"<html lang='en'>", "it is a web page"),
        (b"\x1f\x8b\x08 and the rest of it", r"it begins with b'\x1f\x8b\x08 and the '"),
    ],
)
def test_what_a_file_begins_with_in_words(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    assert beginning(tmp_path / "file") == words


def test_a_reader_never_sees_half_of_what_several_writers_write(tmp_path):
    file, contents = tmp_path / "file", {bytes([letter]) * 200_000 for letter in b"abc"}
    write_atomically(file, b"a" * 200_000)
    writers = [
        threading.Thread(target=lambda content=content: [write_atomically(file, content) for _ in range(10)])
        for content in contents
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert file.read_bytes() in contents
    for writer in writers:
        writer.join()
    assert file.read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
