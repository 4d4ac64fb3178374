"""The front doors in this process, many times: composed once, then changed word by word as Hydra does it."""

import copy
import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict, read_write

from gauntlet.cli import main
from gauntlet.config.compose import CONF, register_resolvers


class CheckedError(Exception):
    """Everything was checked, and work would begin."""


class Door:
    """One front door and a command that works.

    Args:
        name: `train`, `evaluate` or `report`.
        words: of the command.
    """

    def __init__(self, name, words):
        self.name, self.words = name, list(words)
        register_resolvers()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            self.config = compose(name, self.words, return_hydra_config=True)

    def __call__(self, monkeypatch, *words):
        """Exit code, or None where work would have begun; stdout; stderr."""
        monkeypatch.setattr(main.hydra, "main", self._main)
        monkeypatch.setattr(sys, "argv", [f"{self.name}.py", *words])
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                getattr(main, self.name)()
                code = 0
            except CheckedError:
                code = None
            except SystemExit as stop:
                code = stop.code
        return code, out.getvalue(), err.getvalue()

    def _main(self, **_):
        return lambda task: lambda: self._run(task)

    def _run(self, task):
        """As `hydra.main` does it, but for the parts that are alike for every command."""
        config, words = copy.deepcopy(self.config), sys.argv[1:]
        changes = OverridesParser.create().parse_overrides(overrides=words)
        OmegaConf.set_struct(config, True)
        with open_dict(config.hydra):
            config.hydra.overrides.task = [*self.words, *words]
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.runtime.cwd = str(Path.cwd())
        ConfigLoaderImpl._apply_overrides_to_config(changes, config)
        HydraConfig.instance().set_config(config)
        folder = str(OmegaConf.select(config, "hydra.run.dir"))
        with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
            config.hydra.runtime.output_dir = str(Path(folder).absolute())
        HydraConfig.instance().set_config(config)
        Path(folder).mkdir(parents=True, exist_ok=True)
        own = copy.deepcopy(config)
        with read_write(own), open_dict(own):
            del own["hydra"]
        task(own)


def one_line(err):
    """The one line of a refusal."""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("gauntlet: "), err
    assert lines[0].strip() != "gauntlet:", err
    err.encode()
    return lines[0]
