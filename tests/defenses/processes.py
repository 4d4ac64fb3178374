"""A script in two processes of one group."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def on_two_processes(script, folder, *words):
    """Run a script with a folder and further words in a pair of processes, as torchrun would start them."""
    (folder / "two.py").write_text(script)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group |= {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path]), "TORCHELASTIC_RUN_ID": "two"}
    processes = [
        subprocess.Popen(
            [sys.executable, folder / "two.py", folder, *words],
            env=os.environ | group | {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for process in processes:
            _, err = process.communicate(timeout=550)
            assert process.returncode == 0, err[-2000:]
    finally:
        for process in processes:
            process.kill()
