"""A SLURM of one node for tests: Debian's daemons started by hand, with a key, ports and a queue of their own."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.conftest import own_environment

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
_PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])  # where Debian puts daemons
_CPUS = 4  # reported whatever the machine has: jobs of the tests mostly wait

_CONF = """
ClusterName=gauntlet
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={home}/munge.socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=debug Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


class Cluster:
    """Start on entering, stop on leaving."""

    def __init__(self, home):
        self.home = Path(home)
        self.env = dict(own_environment(), PATH=_PATH, SLURM_CONF=str(self.home / "slurm.conf"))
        self.sweeps = []
        self._daemons = []

    def __enter__(self):
        for folder in ("state", "spool"):
            (self.home / folder).mkdir(parents=True)
        self.home.chmod(0o755)
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        memory, ports = int(0.9 * pages * size / 2**20), _free_ports(2)
        conf = _CONF.format(home=self.home, user=getpass.getuser(), ports=ports, cpus=_CPUS, memory=memory)
        (self.home / "slurm.conf").write_text(conf)
        key = self.home / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        files = [f"--{what}-file={self.home}/munged.{what}" for what in ("pid", "log", "seed")]
        files += [f"--key-file={key}", f"--socket={self.home}/munge.socket"]
        self._start("munged", "--force", "--foreground", *files)
        _until(lambda: (self.home / "munge.socket").exists(), "munged's socket")
        self._start("slurmctld", "-D", "-i")
        self._start("slurmd", "-D", "-N", "localhost")
        _until(lambda: self.ask("sinfo", "-h", "-o", "%t") == "idle", "an idle node")
        return self

    def __exit__(self, *_):
        self.clear()  # else slurmstepd outlives slurmd
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(20)

    def ask(self, *command):
        """The output of a command of SLURM."""
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60).stdout.strip()

    def clear(self):
        """Nothing is queued and nothing runs."""
        self.ask("scancel", "--full", "--user", getpass.getuser())
        _until(lambda: not self.ask("squeue", "-h"), "an empty queue")

    def jobs(self):
        """State and reason of every job in the queue, by id."""
        lines = self.ask("squeue", "-h", "-r", "-o", "%i|%T|%r").splitlines()
        return {job: (state, reason) for job, state, reason in (line.split("|") for line in lines)}

    def start_again(self, job):
        """A requeued job is held for two minutes: not here."""
        _until(lambda: self.jobs().get(job, ("", ""))[0] == "PENDING", f"job {job} in the queue again")
        self.ask("scontrol", "update", f"jobid={job}", "StartTime=now")

    def _start(self, program, *words):
        with (self.home / f"{program}.out").open("w") as out:
            command = [shutil.which(program, path=_PATH), *words]
            self._daemons.append(subprocess.Popen(command, env=self.env, stdout=out, stderr=subprocess.STDOUT))


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} after {seconds} s"
        time.sleep(0.1)
