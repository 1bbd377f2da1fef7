"""Parser of `python -m jobs`: verbs, their options, and the messages of parse errors."""

from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import Any

from jsonargparse import (  # type: ignore[attr-defined]
    ActionConfigFile,
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
)

from jobs.spec.job_spec import JobSpec, describe_type, read_spec_file
from pipeline.cli.arguments import expand_option_names, hyphenate_options
from pipeline.cli.errors import explain

JOB_VERBS = {
    "submit": "run `python -m pipeline ARGS` as a job: submit [--spec FILE] [--FIELD VALUE ...] [--wait] -- ARGS",
    "tune": "search over settings of a fit: tune --space FILE [--spec FILE] [--FIELD VALUE ...] [--wait] -- fit ...",
    "list": "list the cluster's jobs, the newest first",
    "status": "print the state of a job: status, reason, step, newest checkpoint",
    "logs": "print a job's log; --follow keeps printing until it ends",
    "stop": "end a job",
    "resume": "resume a stopped or failed job with the command, spec and code that were submitted",
    "up": "start a local cluster, which submit does by itself where there is none, or with --host a head node",
    "down": "stop the cluster that was started here, its jobs too",
    "serve": "classify uploaded videos over HTTP: serve --checkpoint FILE; serve --help has the options",
}


def parse(parser: ArgumentParser, arguments: Sequence[str], *, has_command: bool) -> Namespace:
    """Read the arguments before `--`.

    Args:
        parser: From `make_parser`.
        arguments: The verb and its options, with hyphens or underscores in their names.
        has_command: Whether there was a `--`.

    Raises:
        ArgumentError: An option is unknown, or its value is invalid.
        ValueError: A command is not behind `--`, or the spec file is wrong.
        SystemExit: Help was requested, and is printed.
    """
    try:
        return parser.parse_args(expand_option_names(JobSpec, [_with_underscores(argument) for argument in arguments]))
    except ArgumentError as error:
        _, unrecognized, rest = str(error).partition("nrecognized arguments: ")
        if arguments[0] in ("submit", "tune") and not has_command and unrecognized and not rest.startswith("-"):
            from jobs.submission.preflight import NOTHING_TO_RUN  # here: it imports the dataset readers

            raise ValueError(NOTHING_TO_RUN) from None
        raise


def explain_parser_error(error: BaseException) -> str:
    """Explain a parse error; for a spec field of the wrong type, in plain words instead of Python's type names."""
    message = explain(error)
    name, _, rest = message.partition(": Expected a ")
    type_description = describe_type(name)
    if type_description is None or not rest:
        return message
    value = rest.partition("Got value: ")[2]
    shown = f", not {value}" if value and name != "env" else ""  # values of env may be secrets
    return f"{name}: must be {type_description}{shown}"


def _with_underscores(argument: str) -> str:
    """Turn `--storage-path=x-y` into `--storage_path=x-y`: both spellings of an option are accepted."""
    option, equals, value = argument.partition("=")
    return f"--{option[2:].replace('-', '_')}{equals}{value}" if option.startswith("--") else argument


def make_parser(description: str | None = None) -> ArgumentParser:
    """Build the parser of all verbs.

    Args:
        description: The text above the list of verbs in the help.
    """
    parser = ArgumentParser(
        prog="python -m jobs",
        description=description,
        formatter_class=_DescriptionHelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )
    verbs = parser.add_subcommands(dest="verb")
    for verb, text in JOB_VERBS.items():
        each = _VerbParser(description=text, exit_on_error=False, allow_abbrev=False)
        if verb == "tune":
            each.add_argument("--space", type=str | None, default=None, help="a YAML file of what varies, and how")
            each.add_argument("--resume", type=str | None, default=None, help="go on with the search of this name")
            each.add_argument(
                "--status", type=str | None, default=None, help="print the trials of the search of a name"
            )
        if verb in ("submit", "tune"):
            each.add_argument("--spec", action=_SpecFileAction, help="a YAML file of the fields below")
            each.add_argument("--wait", action="store_true", help="follow the job to its end and exit with its status")
            each.add_argument("--check", action="store_true", help="examine every node first, as `doctor` does")
            each.add_argument("--no_check", action="store_true", help="do not read the configuration here first")
            each.add_argument("--dry_run", action="store_true", help="show what would run, and start nothing")
            each.add_class_arguments(JobSpec)
        elif verb == "up":
            each.add_argument("--num_cpus", type=int | None, default=None, help="CPUs to share out; default: all")
            each.add_argument("--num_gpus", type=int | None, default=None, help="GPUs to share out; default: all")
            host_help = "the address of this machine to listen on, such as 10.0.0.5, so that other nodes can join"
            each.add_argument("--host", type=str, default="127.0.0.1", help=host_help)
            each.add_argument(
                "--port", type=int, default=0, help="of the job server; default: 8265, on loopback a free one"
            )
            each.add_argument("--ray_port", type=int, default=0, help="where other nodes join; default: 6379")
        elif verb not in ("down", "serve"):  # the options of `serve` are read by themselves
            each.add_argument("--address", type=str | None, default=None, help="the job server; default: as for submit")
        if verb in ("status", "logs", "stop", "resume"):
            each.add_argument(
                "id", nargs="?", default=None, help="the job's id, or its run's name; default: the newest"
            )
        if verb == "logs":
            each.add_argument("--follow", action="store_true", help="print on to the job's end")
        if verb == "resume":
            each.add_argument("--storage_path", type=str | None, default=None, help="where the run of that name is")
            each.add_argument("--wait", action="store_true", help="follow the job to its end and exit with its status")
        verbs.add_subcommand(verb, each, help=text)
    return parser


class _VerbParser(ArgumentParser):
    """Argument parser whose help shows the names of options with hyphens."""

    def format_help(self, *args: Any, **options: Any) -> str:
        return hyphenate_options(super().format_help(*args, **options))


class _DescriptionHelpFormatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Help formatter that keeps the line breaks of the description, one example a line."""


class _SpecFileAction(ActionConfigFile):
    """Action of `--spec FILE`: checks the field names first, and names the file in errors about its values."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option_string: str | None = None) -> None:
        """Read the spec file; `value` is its path."""
        if not read_spec_file(value):
            return  # an empty one changes nothing; the parser would not take it
        try:
            super().__call__(parser, namespace, value, option_string)  # type: ignore[no-untyped-call]
        except (ArgumentError, TypeError, ValueError) as error:
            raise ValueError(f"spec={value}: {explain_parser_error(error)}") from None
