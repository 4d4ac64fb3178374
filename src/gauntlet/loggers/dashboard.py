"""W&B: a logger whose failures never end a run."""

from __future__ import annotations

import os
import ssl
import sys
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

_TIMEOUT = 10.0  # seconds for the server to answer


def finish_wandb(exit_code: int = 0) -> None:
    """End the W&B run of this process, if there is one, so that the next job of a sweep begins its own.

    Errors are printed only: a scheduler that ends a job ends W&B's own process, too.

    Args:
        exit_code: of the job; W&B shows any but 0 as failed.
    """
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        try:
            wandb.finish(exit_code=exit_code)
        except Exception as error:
            print(f"W&B could not be finished ({type(error).__name__}): its files may lack the last steps", flush=True)


@contextmanager
def wandb_finished() -> Iterator[None]:
    """End the W&B run on leaving the context, with or without an error.

    Raises:
        UserError: W&B refused the run or could not be reached.
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
    """Lightning's logger for W&B, whose failures never end a run: `metrics.csv` and the records hold every number.

    A run that cannot begin online is kept offline; an error of W&B after that ends the logging only.

    Args:
        demanded: `WANDB_MODE=online` was set: a run that cannot begin online is refused.
        init: arguments of `wandb.init`, with `dir` and `mode`.
    """

    def __init__(self, demanded: bool, init: dict[str, Any]) -> None:
        super().__init__(save_dir=init["dir"], offline=init["mode"] != "online", **init)
        self._init = init
        self.demanded = demanded
        self.failed = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run object, created on first access."""
        if self._experiment is None:
            self._experiment = self._begin()
        return self._experiment

    def _begin(self) -> Any:
        import wandb

        try:
            run = wandb.run or wandb.init(**self._init)
        except Exception as error:
            if self.demanded or self._init["mode"] != "online":
                raise
            _print(f"W&B: {first_line(error)}: {_offline_hint(self._init['dir'])}")
            run = wandb.init(**{**self._init, "mode": "offline", "resume": None})
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return run

    @rank_zero_only
    def safely(self, call: Callable[[], object]) -> None:
        """Call a function of W&B; on the first error print it and send nothing more.

        Raises:
            Exception: the run could not begin online although that was demanded.
        """
        if self.failed:
            return
        try:
            call()
        except Exception as error:
            if self.demanded and self._experiment is None:
                raise
            self.failed = True
            _print(f"W&B: {first_line(error)}: nothing more is sent; metrics.csv and the records have all numbers")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send the row of a step."""
        self.safely(lambda: super(Dashboard, self).log_metrics(metrics, step))

    def log_hyperparams(self, params: Any) -> None:
        """Send the config."""
        self.safely(lambda: super(Dashboard, self).log_hyperparams(params))

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Send pictures."""
        self.safely(lambda: super(Dashboard, self).log_image(key, images, step, **kwargs))


@rank_zero_only
def _print(line: str) -> None:
    print(line, flush=True)


def _offline_hint(folder: str) -> str:
    return f"the run is kept offline, and `wandb sync {folder}/wandb/offline-run-*` sends it later"


def wandb_logger(
    folder: str | Path, project: str, name: str, group: str, run_id: str, job_type: str = "train"
) -> Logger:
    """Build the W&B logger: online where an account is logged in and the server answers, else offline.

    `WANDB_MODE` overrides this. If the home cannot be written to, W&B's own files go to the run folder.

    Args:
        folder: run folder; W&B's own files go to `wandb/` in it.
        project: W&B project.
        name: of the run, as W&B shows it.
        group: of runs; `WANDB_RUN_GROUP`, which a sweep sets, overrides it.
        run_id: a function of the config, so that a requeued job resumes the same run.
        job_type: `train` or `evaluate`.

    Raises:
        UserError: `WANDB_MODE` is unknown.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    given = _requested_mode()
    _move_out_of_home(Path(folder))
    mode = given or _working_mode(str(folder))
    init = {
        "dir": str(folder),
        "project": project,
        "name": name,
        "id": run_id,
        "job_type": job_type,
        "mode": mode,
        "group": os.environ.get("WANDB_RUN_GROUP", group),
        "resume": "allow" if mode == "online" else None,
    }
    return Dashboard(given == "online", init)


_MODES = {mode: mode for mode in ("online", "offline", "disabled", "shared")} | {"run": "online", "dryrun": "offline"}


def _requested_mode() -> str | None:
    """Return `WANDB_MODE` as W&B spells it; None if it is empty or not set.

    Raises:
        UserError: the mode is unknown.
    """
    given = os.environ.pop("WANDB_MODE", "").strip()
    if not given:
        return None
    if (mode := _MODES.get(given.lower())) is None:
        raise UserError(f"WANDB_MODE={given}: expected online, offline or disabled, or leave it out")
    os.environ["WANDB_MODE"] = mode
    return mode


def _working_mode(folder: str) -> str:
    import wandb

    try:
        if not wandb.login(prompt=False, verify=False):
            return "offline"
        reason = unreachable_reason(str(wandb.setup().settings.base_url))
    except Exception as error:  # W&B cannot read its own settings
        reason = first_line(error)
    if reason is not None:
        print_once(f"W&B: {reason}: {_offline_hint(folder)}")
    return "online" if reason is None else "offline"


@cache
def unreachable_reason(url: str) -> str | None:
    """Return why a server does not answer, or None; cached, and faster than W&B's own attempts of 90 seconds."""
    try:
        urllib.request.urlopen(url, timeout=_TIMEOUT).close()
    except urllib.error.HTTPError:  # the server answers, with an error
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return None if isinstance(reason, ssl.SSLError) else f"{url} cannot be reached ({reason})"
    return None


@cache
def print_once(line: str) -> None:
    """Print a line on rank zero, once per process."""
    _print(line)


def _move_out_of_home(folder: Path) -> None:
    """Put W&B's own files into the run folder if the home is missing or not writable."""
    from wandb import env

    home = {
        "WANDB_DATA_DIR": env.get_data_dir(),
        "WANDB_CACHE_DIR": env.get_cache_dir(),
        "WANDB_CONFIG_DIR": os.path.expanduser("~/.config/wandb"),  # noqa: PTH111  (Path raises without a home)
    }
    for variable, path in home.items():
        if variable not in os.environ and not _is_writable(Path(str(path)).absolute()):
            os.environ[variable] = str(folder / "wandb" / variable.split("_")[1].lower())


def _is_writable(path: Path) -> bool:
    """Return whether a folder exists or can be made, and can be written to."""
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    effective = os.access in os.supports_effective_ids
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK, effective_ids=effective)
