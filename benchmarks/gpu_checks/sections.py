"""Runs sections of measurements in a child process, each with a time limit; a crash costs its section alone."""

import os
import pkgutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import NamedTuple

from benchmarks.gpu_checks.results import Results, Row, Settings, read_rows
from pipeline.processes.killable_process import KillableProcess, ProcessDied, ProcessHung

_LEAST_S = 5.0  # with less time left a section is not begun
_CPU_PATIENCE = 10  # times the limits of a GPU: a CPU that is shared with other work


class Section(NamedTuple):
    """A group of questions.

    Attributes:
        measure: the function that measures and adds the rows, as `package.module:function`: the child imports it, and
            this process does not need torch. It takes the arguments, the settings and the results.
        limit_s: seconds after which it is killed.
        arguments: first arguments of the function.
    """

    measure: str
    limit_s: float
    arguments: tuple[str, ...] = ()


def run_sections(
    sections: Mapping[str, Section], settings: Settings, budget_s: float, show: Callable[[str], None] = print
) -> list[Row]:
    """Runs sections in order and shows their rows as each ends.

    Sections follow each other in one child process, as starting one and its CUDA context takes seconds; after a failure
    the next section gets a new one, because an error of CUDA persists in its process.

    Args:
        sections: the sections by name.
        settings: the settings of the run; rows are written to `settings.out`.
        budget_s: seconds for all of them; what would begin later is not measured, and said to be so.
        show: called with each line of progress.

    Returns:
        All rows.
    """
    ends, path = time.monotonic() + budget_s, settings.out / "rows.jsonl"
    process, shown = KillableProcess(), 0
    try:
        for name, section in sections.items():
            began, reason = time.monotonic(), ""
            limit_s = section.limit_s * (_CPU_PATIENCE if settings.device == "cpu" else 1)
            if ends - began < _LEAST_S:
                reason = f"its time of {budget_s:g} s was up"
            else:
                try:
                    process.call(_measure, name, section, settings, timeout=min(limit_s, ends - began))
                except ProcessHung as error:
                    reason = f"the process {error} and was killed"
                except ProcessDied as error:
                    reason = f"the process ended, {error}"
                except Exception as error:  # whatever a measurement raises; its traceback is in the log
                    reason = f"{type(error).__name__}: {error}"
                if reason:
                    process.close()
                    process = KillableProcess()
            if reason:
                Results(settings, name).add_failure(" ".join(reason.split())[:300])
            show(f"{name}: {time.monotonic() - began:.0f} s")
            rows = read_rows(path)
            for row in rows[shown:]:
                show(f"  {row.question}: {row.result}{f' (goal: {row.goal})' if row.goal else ''}")
            shown = len(rows)
    finally:
        process.close()
    return read_rows(path)


def _measure(name: str, section: Section, settings: Settings) -> None:
    """Runs a section in the child, whose output goes to log.txt."""
    log = os.open(settings.out / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (sys.stdout, sys.stderr):
        standard.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    print(f"\n# {name}", flush=True)
    try:
        measure: Callable[..., None] = pkgutil.resolve_name(section.measure)
        measure(*section.arguments, settings, Results(settings, name))
    except Exception:
        traceback.print_exc()
        raise
    finally:
        if settings.device == "cuda":
            import torch

            torch.cuda.empty_cache()
            torch.backends.cudnn.benchmark = False  # which a Trainer leaves as a `fit` had it
