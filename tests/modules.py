"""Modules out of a few lines of source, as a user's folder has them."""

import importlib.util
import sys
from textwrap import dedent


def module_of(folder, name, source):
    """The module `name` whose file in the folder has this source; imported anew."""
    file = folder / f"{name}.py"
    file.write_text(dedent(source))
    spec = importlib.util.spec_from_file_location(name, file)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
