"""Where metrics go: a CSV file always, W&B when there is one."""

from __future__ import annotations

import csv
import io
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from gauntlet.errors import UserError, first_line
from gauntlet.files import write_atomically

_PATIENCE = 10.0  # seconds that a dashboard may take to answer at all
_SECONDS = 5.0  # between two writes of the metrics; a checkpoint to go on from writes them too


class MetricsCSV(Logger):
    """`metrics.csv` in the run folder: a row per logged step. A resumed run overwrites the steps it does again.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self._file = Path(folder) / "metrics.csv"
        self._rows: dict[int, dict[str, Any]] = {}
        self._old: dict[int, dict[str, Any]] | None = None
        self._written = -_SECONDS

    @property
    def name(self) -> str:
        """As Lightning shows it."""
        return "csv"

    @property
    def version(self) -> str:
        """There is one per run folder."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run folder has the config already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add values to the row of a step."""
        step = step or 0
        if self._old is None:
            self._old = {number: row for number, row in self._read().items() if number < step}
        self._rows.setdefault(step, {}).update(metrics)

    @rank_zero_only
    def save(self) -> None:
        """Lightning asks after every row: write every few seconds."""
        if time.monotonic() - self._written > _SECONDS:
            self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Write the file anew."""
        self._written = time.monotonic()
        rows = {**(self._old or {}), **self._rows}
        if not self._rows:
            return
        columns = ["step", *sorted({name for row in rows.values() for name in row})]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({"step": step, **rows[step]} for step in sorted(rows))
        write_atomically(self._file, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """At the end, however it came."""
        self.flush()

    def _read(self) -> dict[int, dict[str, Any]]:
        if not self._file.exists():
            return {}
        with self._file.open(newline="", encoding="utf-8") as stream:
            return {int(row.pop("step")): {k: v for k, v in row.items() if v} for row in csv.DictReader(stream)}


def finish_wandb(exit_code: int = 0) -> None:
    """End the W&B run of this process, if there is one: the next job of a sweep begins its own.

    A scheduler that ends a job ends W&B's own process with it. That is no reason for the run to fail.

    Args:
        exit_code: of the job; a dashboard shows any but 0 as failed.
    """
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        try:
            wandb.finish(exit_code=exit_code)
        except Exception as error:
            print(f"W&B could not be finished ({type(error).__name__}): its files may lack the last steps", flush=True)


@contextmanager
def wandb_finished() -> Iterator[None]:
    """End the W&B run with the job, however the job ends.

    Raises:
        UserError: W&B refused the run, or could not be reached; what the job has written stays.
    """
    try:
        yield
    except BaseException as error:
        finish_wandb(exit_code=1)
        if "wandb" in sys.modules and isinstance(error, sys.modules["wandb"].errors.Error):
            raise UserError(
                f"W&B: {error}; what is done is kept, and the same command goes on from here: log in anew with"
                " `wandb login`, or set WANDB_MODE=offline and send it later with `wandb sync`"
            ) from error
        raise
    finish_wandb()


class Dashboard(WandbLogger):
    """Lightning's logger for W&B, which never costs a run: `metrics.csv` and the records hold every number anyway.

    Where the run cannot begin online it is kept offline; an error of W&B after that ends the logging and nothing else.

    Args:
        demanded: the user said `WANDB_MODE=online`: a run that cannot begin so is refused.
        init: arguments of `wandb.init`, with `dir` and `mode`.
    """

    def __init__(self, demanded: bool, init: dict[str, Any]) -> None:
        super().__init__(save_dir=init["dir"], offline=init["mode"] != "online", **init)
        self._init, self.demanded, self.lost = init, demanded, False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's own object of the run, begun when it is first asked for."""
        if self._experiment is None:
            self._experiment = self._begun()
        return self._experiment

    def _begun(self) -> Any:
        import wandb

        try:
            run = wandb.run or wandb.init(**self._init)
        except Exception as error:
            if self.demanded or self._init["mode"] != "online":
                raise
            _say(f"W&B: {first_line(error)}: {_kept_offline(self._init['dir'])}")
            run = wandb.init(**{**self._init, "mode": "offline", "resume": None})
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return run

    @rank_zero_only
    def safely(self, call: Callable[[], object]) -> None:
        """Do what may fail in W&B; the first error is said and nothing more is sent.

        Raises:
            Exception: the run itself could not begin online, as was demanded.
        """
        if self.lost:
            return
        try:
            call()
        except Exception as error:
            if self.demanded and self._experiment is None:
                raise
            self.lost = True
            _say(f"W&B: {first_line(error)}: it is left out from here on; metrics.csv and the records have all numbers")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send the row of a step."""
        self.safely(lambda: super(Dashboard, self).log_metrics(metrics, step))

    def log_hyperparams(self, params: Any) -> None:
        """Send what a run was given."""
        self.safely(lambda: super(Dashboard, self).log_hyperparams(params))

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Send pictures."""
        self.safely(lambda: super(Dashboard, self).log_image(key, images, step, **kwargs))


@rank_zero_only
def _say(line: str) -> None:
    print(line, flush=True)


def _kept_offline(folder: str) -> str:
    return f"the run is kept offline, and `wandb sync {folder}/wandb/offline-run-*` sends it later"


def wandb_logger(
    folder: str | Path, project: str, name: str, group: str, run_id: str, job_type: str = "train"
) -> Logger:
    """W&B: online where an account is logged in and it can be reached, else offline without asking.

    `WANDB_MODE` has the last word. Files that W&B keeps in a home which cannot be written to go to the run folder.

    Args:
        folder: of the run; W&B's own files go to `wandb/` in it.
        project: W&B project.
        name: of the run, as a dashboard shows it.
        group: the runs it belongs with; `WANDB_RUN_GROUP`, which a sweep sets, has the last word.
        run_id: a function of the config, so that a requeued job goes on in the same run.
        job_type: `train` or `evaluate`.

    Raises:
        UserError: a `WANDB_MODE` that is none.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    given = _given_mode()
    _move_out_of_home(Path(folder))
    mode = given or _mode_that_works(str(folder))
    init = {
        **{"dir": str(folder), "project": project, "name": name, "id": run_id, "job_type": job_type, "mode": mode},
        **{"group": os.environ.get("WANDB_RUN_GROUP", group), "resume": "allow" if mode == "online" else None},
    }
    return Dashboard(given == "online", init)


_MODES = {mode: mode for mode in ("online", "offline", "disabled", "shared")} | {"run": "online", "dryrun": "offline"}


def _given_mode() -> str | None:
    """`WANDB_MODE` in the letters that W&B reads; empty is not given.

    Raises:
        UserError: there is no such mode.
    """
    given = os.environ.pop("WANDB_MODE", "").strip()
    if not given:
        return None
    if (mode := _MODES.get(given.lower())) is None:
        raise UserError(f"WANDB_MODE={given}: expected online, offline or disabled, or leave it out")
    os.environ["WANDB_MODE"] = mode
    return mode


def _mode_that_works(folder: str) -> str:
    import wandb

    try:
        if not wandb.login(prompt=False, verify=False):
            return "offline"
        reason = _unreachable(str(wandb.setup().settings.base_url))
    except Exception as error:  # a setting of W&B that W&B itself cannot read
        reason = first_line(error)
    if reason is not None:
        _say_once(f"W&B: {reason}: {_kept_offline(folder)}")
    return "online" if reason is None else "offline"


@cache
def _unreachable(url: str) -> str | None:
    """Why nothing answers there, asked once: W&B itself tries for a minute and a half, for every job of a sweep."""
    try:
        urllib.request.urlopen(url, timeout=_PATIENCE).close()
    except urllib.error.HTTPError:  # an answer, though not to this question
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return None if isinstance(reason, ssl.SSLError) else f"{url} cannot be reached ({reason})"
    return None


@cache
def _say_once(line: str) -> None:
    _say(line)


def _move_out_of_home(folder: Path) -> None:
    """Let W&B keep its own files in the run folder where the home is read-only, full of other owners, or not there."""
    from wandb import env

    home = {
        "WANDB_DATA_DIR": env.get_data_dir(),
        "WANDB_CACHE_DIR": env.get_cache_dir(),
        "WANDB_CONFIG_DIR": os.path.expanduser("~/.config/wandb"),  # noqa: PTH111  (Path raises without a home)
    }
    for variable, place in home.items():
        if variable not in os.environ and not _writable(Path(str(place)).absolute()):
            os.environ[variable] = str(folder / "wandb" / variable.split("_")[1].lower())


def _writable(place: Path) -> bool:
    """Whether a folder is there or could be made, and written to."""
    known = next(folder for folder in (place, *place.parents) if folder.exists())
    return known.is_dir() and os.access(known, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
