"""Resolved configuration of a Lightning verb, with all defaults, computed without running the verb.

Both functions are called in a child process (`pipeline.processes.killable_process`), because the modules that a
configuration imports should not stay in the caller, and may hang.
"""

import contextlib
import io
import sys
import sysconfig
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli.errors import explain


def resolve_configuration(arguments: Sequence[str]) -> str:
    """Returns the resolved configuration as YAML.

    Args:
        arguments: The command line from the verb on, such as `["fit", "--config", "pipeline/configs/demo.yaml"]`.

    Raises:
        ValueError: The configuration cannot be resolved; the message is the command's own, in one line.
    """
    printed = io.StringIO()
    try:
        from pipeline.training.lightning_cli import main

        with contextlib.redirect_stdout(printed):
            main([*arguments, "--print_config"])
    except SystemExit as stop:  # --print_config ends this way
        if stop.code not in (0, None):
            raise ValueError(f"exit status {stop.code}") from None
    except (ArgumentError, ValueError, OSError, ImportError) as error:
        raise ValueError(" ".join(explain(error).split())) from None
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())}") from None
    return printed.getvalue()


def resolve_in_upload(arguments: Sequence[str], upload: Path) -> tuple[str, dict[str, str]]:
    """Returns the configuration as YAML, and the imported modules that will be missing on another machine.

    Args:
        arguments: The command line from the verb on.
        upload: The folder that is uploaded to the other machine.

    Returns:
        The YAML; and by module name the file of each imported top-level module that is neither in `upload` nor in an
        installed distribution, such as a module of an editable install.

    Raises:
        ValueError: The configuration cannot be resolved.
    """
    text = resolve_configuration(arguments)
    folders = [str(upload), sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()]
    available = [Path(folder).resolve() for folder in folders]
    files = {name: getattr(module, "__file__", None) for name, module in sorted(sys.modules.items())}
    missing = {
        name: file
        for name, file in files.items()
        if file and "." not in name and name != "__main__"
        if not any(Path(file).resolve().is_relative_to(folder) for folder in available)
    }
    return text, missing
