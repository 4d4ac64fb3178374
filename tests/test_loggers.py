"""Metrics are in one CSV after any interruption; W&B never prompts."""

import io
import json
import os
import ssl
import subprocess
import sys
import textwrap
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import polars as pl
import pytest

from gauntlet.errors import UserError
from gauntlet.loggers import MetricsCSV, wandb_finished, wandb_logger


class Refusing(BaseHTTPRequestHandler):
    """A W&B server without users."""

    def do_POST(self):
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"error": "user is not logged in"}')

    def log_message(self, *_):
        pass


def logged(folder, *rows):
    logger = MetricsCSV(folder)
    for step, values in rows:
        logger.log_metrics(values, step)
    logger.flush()
    return pl.read_csv(folder / "metrics.csv")


def test_a_row_per_step_and_a_column_per_metric(tmp_path):
    table = logged(tmp_path, (0, {"loss": 2.0}), (5, {"loss": 1.0}), (5, {"lr": 0.1}))
    assert table.to_dict(as_series=False) == {"step": [0, 5], "loss": [2.0, 1.0], "lr": [None, 0.1]}


def test_a_resumed_run_overwrites_the_steps_it_does_again_and_keeps_the_rest(tmp_path):
    logged(tmp_path, (0, {"loss": 3.0}), (5, {"loss": 2.0}), (10, {"loss": 9.0}))
    table = logged(tmp_path, (10, {"loss": 1.0}), (15, {"acc": 0.5}))
    assert table["step"].to_list() == [0, 5, 10, 15]
    assert table["loss"].to_list() == [3.0, 2.0, 1.0, None]


def test_wandb_is_offline_without_a_prompt_where_no_account_is_logged_in(tmp_path):
    script = textwrap.dedent(
        f"""
        from gauntlet.loggers import finish_wandb, wandb_logger
        logger = wandb_logger({str(tmp_path)!r}, project="p", name="n", group="g", run_id="abc")
        logger.log_metrics({{"loss": 0.25}}, step=3)
        logger.finalize("success")
        finish_wandb()
        second = wandb_logger({str(tmp_path)!r}, project="p", name="m", group="g", run_id="def")
        second.log_metrics({{"loss": 0.5}}, step=3)
        finish_wandb()
        """
    )
    hidden = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "NETRC"} | {
        "HOME": str(tmp_path)
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=hidden, capture_output=True, text=True, input="", timeout=120
    )
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("wandb/offline-run-*-abc")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    read = subprocess.run(command, capture_output=True, text=True, env=hidden, check=True)
    history = [json.loads(line) for line in read.stdout.splitlines() if '"history"' in line]
    assert any(record["history"]["item"].get("loss") == 0.25 for record in history)
    assert len(list(tmp_path.glob("wandb/offline-run-*-def"))) == 1  # the next job of a sweep has a run of its own


def test_a_refusal_of_wandb_is_said_in_a_line_with_the_way_out(tmp_path):
    script = textwrap.dedent(
        f"""
        from gauntlet.errors import UserError
        from gauntlet.loggers import wandb_finished, wandb_logger
        logger = wandb_logger({str(tmp_path)!r}, project="p", name="n", group="g", run_id="abc")
        try:
            with wandb_finished():
                logger.experiment
        except UserError as error:
            print(error)
        """
    )
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    known = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "NETRC"} | {
        "HOME": str(tmp_path),
        "WANDB_API_KEY": 40 * "0",
        "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "WANDB_MODE": "online",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], env=known, capture_output=True, text=True, check=True, timeout=120
        )
    finally:
        server.shutdown()
        server.server_close()
    assert "401" in done.stdout
    assert "WANDB_MODE=offline" in done.stdout


@pytest.fixture
def fake_wandb(monkeypatch):
    """W&B in this process, with a log-in and without a network; what was asked of it."""
    import wandb

    from gauntlet.loggers import dashboard

    asked, run = [], SimpleNamespace(define_metric=lambda *_, **__: None, log=lambda *_: None, disabled=False)

    def init(**given):
        asked.append(given["mode"])
        if given["mode"] in refused:
            raise wandb.errors.CommError("no route\nto host")
        return run

    refused: set[str] = set()
    for cached in (dashboard.unreachable_reason, dashboard.print_once):
        cached.cache_clear()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "run", None)
    monkeypatch.setattr(dashboard.urllib.request, "urlopen", lambda *_, **__: io.BytesIO())
    return SimpleNamespace(asked=asked, refused=refused, run=run)


def board(folder):
    return wandb_logger(folder, project="p", name="n", group="g", run_id="abc")


def test_wandb_is_online_where_an_account_is_logged_in(fake_wandb, tmp_path, capfd):
    board(tmp_path).log_metrics({"loss": 1.0}, 3)
    assert fake_wandb.asked == ["online"]
    assert capfd.readouterr().out == ""


def test_without_a_network_every_job_of_a_sweep_is_kept_offline_and_that_is_said_once(
    fake_wandb, tmp_path, capfd, monkeypatch
):
    def nothing(url, timeout):
        tried.append(timeout)
        raise urllib.error.URLError("Name or service not known")

    tried = []
    monkeypatch.setattr(urllib.request, "urlopen", nothing)
    for _ in range(3):
        board(tmp_path).log_metrics({"loss": 1.0}, 3)
    assert fake_wandb.asked == ["offline"] * 3
    assert tried == [10.0]
    (line,) = capfd.readouterr().out.splitlines()
    assert "cannot be reached (Name or service not known): the run is kept offline" in line
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in line


@pytest.mark.parametrize("answer", [urllib.error.HTTPError("u", 404, "no", {}, None), ssl.SSLError("own authority")])
def test_an_answer_is_an_answer_whatever_it_says(fake_wandb, tmp_path, monkeypatch, answer):
    def urlopen(*_, **__):
        raise answer

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    board(tmp_path).log_metrics({"loss": 1.0}, 3)
    assert fake_wandb.asked == ["online"]


def test_a_run_that_wandb_refuses_is_kept_offline(fake_wandb, tmp_path, capfd):
    fake_wandb.refused.add("online")
    logger = board(tmp_path)
    logger.log_metrics({"loss": 1.0}, 3)
    logger.log_metrics({"loss": 0.5}, 4)
    assert fake_wandb.asked == ["online", "offline"]
    assert capfd.readouterr().out.startswith("W&B: no route: the run is kept offline")
    assert not logger.failed


def test_an_error_of_wandb_costs_nothing_and_is_said_once(fake_wandb, tmp_path, capfd):
    fake_wandb.refused |= {"online", "offline"}
    logger = board(tmp_path)
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
        logger.log_hyperparams({"a": 1})
        logger.log_image("pictures", [])
    assert fake_wandb.asked == ["online", "offline"]
    _, last = capfd.readouterr().out.splitlines()
    assert last.startswith("W&B: no route: nothing more is sent")


def test_online_that_was_demanded_is_refused_before_training(fake_wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "Online")
    fake_wandb.refused.add("online")
    with pytest.raises(UserError, match="WANDB_MODE=offline"), wandb_finished():
        board(tmp_path).log_metrics({"loss": 1.0}, 3)


def test_after_the_evaluation_nothing_that_wandb_does_is_an_error(fake_wandb, tmp_path, monkeypatch, capfd):
    from gauntlet.reports import dashboard

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(dashboard, "_send", lambda *_: (_ for _ in ()).throw(PermissionError("staging")))
    dashboard.send_evaluation([board(tmp_path)], None)
    assert capfd.readouterr().out.startswith("W&B: staging: nothing more is sent")


@pytest.mark.parametrize(
    ("given", "asked"),
    [("", "online"), (" ", "online"), ("Offline", "offline"), ("DISABLED", "disabled"), ("dryrun", "offline")],
)
def test_modes_in_any_letters(fake_wandb, tmp_path, monkeypatch, given, asked):
    monkeypatch.setenv("WANDB_MODE", given)
    board(tmp_path).log_metrics({"loss": 1.0}, 3)
    assert fake_wandb.asked == [asked]
    assert os.environ.get("WANDB_MODE", "online") == asked


def test_a_mode_that_is_none_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "of")
    with pytest.raises(UserError, match="WANDB_MODE=of: expected online, offline or disabled"):
        board(tmp_path)


def test_files_of_wandb_go_to_the_run_folder_where_there_is_no_home_to_write_to(fake_wandb, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, "")  # so that it is restored afterwards
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    board(tmp_path / "run")
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "run" / "wandb" / "data")
    assert os.environ["WANDB_CACHE_DIR"] == str(tmp_path / "run" / "wandb" / "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(variable)
    board(tmp_path / "run")
    assert "WANDB_DATA_DIR" not in os.environ


def test_a_finished_evaluation_with_a_home_that_cannot_be_written_to(tmp_path):
    """W&B itself, offline, with a table, which it stages below the home."""
    script = textwrap.dedent(
        f"""
        import wandb
        from gauntlet.loggers import finish_wandb, wandb_logger
        logger = wandb_logger({str(tmp_path / "run")!r}, project="p", name="n", group="g", run_id="abc")
        logger.safely(lambda: logger.experiment.log({{"table": wandb.Table(columns=["a"], data=[[1]])}}))
        finish_wandb()
        assert not logger.failed
        """
    )
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()
    hidden = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "XDG")) and k != "NETRC"}
    hidden["HOME"] = str(tmp_path / "file" / "home")
    done = subprocess.run([sys.executable, "-c", script], env=hidden, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "run").glob("wandb/offline-run-*-abc"))) == 1
