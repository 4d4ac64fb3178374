"""Metrics are in one CSV whatever happened to the run; W&B asks nobody anything."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import polars as pl

from gauntlet.loggers import MetricsCSV


class Refusing(BaseHTTPRequestHandler):
    """A W&B server that knows nobody."""

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


def test_wandb_is_offline_without_asking_where_nobody_is_logged_in(tmp_path):
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
