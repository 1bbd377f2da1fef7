"""`python -m pipeline VERB ...`: every step a person runs.

A verb is a typed function in the module of its name; its arguments and help come from its signature and docstring. Bad
input ends with one line and exit status 2; set PIPELINE_DEBUG=1 to see where it came from.
"""

import difflib
import importlib
import os
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any

from datamodules.freed_memory import keep_freed_memory
from pipeline.ending import exit_status, is_told_by_another, last_words
from pipeline.terminal import say, show_all_characters
from pipeline.words import call_with_words, explain

LIGHTNING_VERBS = {
    "fit": "train a model from a YAML config",
    "validate": "run a checkpoint on the validation split",
    "test": "run a checkpoint on the test split",
    "predict": "run a checkpoint and keep what it says of every video",
}
CONFIG_VERBS = {
    "show": "write a page of clips exactly as training, test and export see them",
    "doctor": "test whether this machine is ready for a run: versions, decoder, data, disk, GPU, one real step",
}
VERBS = {
    "synthesize": "make a Kinetics-style dataset of real video files whose class is their motion",
    "pack": "turn annotations and videos into WebDataset shards with an index",
    "plan": "show who reads what in an epoch, on any number of ranks",
    "evaluate": "score checkpoints on a held-out split, several views a video, and report",
    "compare": "say whether one result is better than another on the same videos, and where",
    "fuse": "average the scores of several results, such as two streams, and judge the whole",
    "features": "export a named layer's features of every video",
    "classify": "say what is done in video files, with a checkpoint or published weights",
    "describe": "say in a sentence what is to be seen in video files",
    "weights": "list, get and convert published checkpoints",
    "linear": "train a linear classifier on exported features and test it",
    "verify": "check a packed dataset: shards, index and manifest; with --full every frame",
    "index": "rebuild index and manifest from shards alone, ours or others'",
    "quarantine": "leave videos of a packed dataset out of training and evaluation",
    "stats": "show the class balance, durations, rates and sizes of a dataset",
    "summarize": "print several reports side by side",
}


def main(args: Sequence[str] | None = None) -> int:
    """Runs a verb.

    Args:
        args: the words after `python -m pipeline`; default: those of this process.

    Returns:
        The exit status: 0 when all went well, 2 for bad input; 1 where `doctor` found something wrong.
    """
    words = list(sys.argv[1:] if args is None else args)
    verb = words[0] if words else ""
    if verb in ("", "-h", "--help"):
        print(_usage())
        return 0 if verb else 2
    if verb not in LIGHTNING_VERBS | CONFIG_VERBS | VERBS:
        every = ", ".join(LIGHTNING_VERBS | CONFIG_VERBS | VERBS)
        near = difflib.get_close_matches(verb, LIGHTNING_VERBS | CONFIG_VERBS | VERBS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {every}"
        return _complain(f"there is no verb {verb!r}; {hint}")
    keep_freed_memory()
    show_all_characters()
    try:
        if verb in LIGHTNING_VERBS:
            _verb("training", "main")(words, for_a_person=True)
        elif verb in CONFIG_VERBS:
            return int(_verb(verb, "main")(words[1:]) or 0)
        else:
            _run(verb, words[1:])
    except (ArgumentError, ValueError, OSError, ImportError) as error:
        if os.environ.get("PIPELINE_DEBUG"):
            raise
        return _complain(last_words(error) or explain(error))
    except (KeyboardInterrupt, SystemExit) as stop:
        told = last_words(stop) or ("interrupted" if isinstance(stop, KeyboardInterrupt) else None)
        if told is None:
            raise
        return exit_status(stop) if is_told_by_another(stop) else _complain(told, exit_status(stop))
    return 0


def _run(verb: str, words: list[str]) -> None:
    call_with_words(_verb(verb, verb), words, f"python -m pipeline {verb}")


def _verb(module: str, function: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(importlib.import_module(f"pipeline.{module}"), function)
    return found


def _usage() -> str:
    every = VERBS | CONFIG_VERBS | LIGHTNING_VERBS
    width = max(map(len, every))
    lines = [f"  {name:<{width}}  {text}" for name, text in every.items()]
    return "\n".join(["usage: python -m pipeline VERB [--help] ...", "", *lines])


def _complain(message: str, status: int = 2) -> int:
    say(f"error: {' '.join(message.split())}", sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
