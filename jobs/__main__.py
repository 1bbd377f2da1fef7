"""`python -m jobs VERB`: submit a `python -m pipeline` command to a Ray cluster, and look after it.

python -m jobs submit --spec jobs/configs/cpu_2_workers.yaml -- fit --config pipeline/configs/demo.yaml
python -m jobs list
python -m jobs status|logs|stop|resume [ID]
python -m jobs up|down
"""

import dataclasses
import datetime
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace  # type: ignore[attr-defined]

from jobs.spec import JobSpec, read_spec_file
from pipeline.words import explain, spell_out

VERBS = {
    "submit": "run `python -m pipeline ARGS` as a job: submit [--spec FILE] [--FIELD VALUE ...] [--wait] -- ARGS",
    "list": "list the cluster's jobs, the newest first",
    "status": "tell what is known of a job",
    "logs": "print a job's log; --follow prints on to its end",
    "stop": "end a job",
    "resume": "take a stopped or failed job up again: the command, spec and code that were submitted",
    "up": "start a local cluster, which submit does by itself where there is none, or with --host a head node",
    "down": "stop the cluster that was started here, its jobs too",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        args: The words after `python -m jobs`; default: those of this process.

    Returns:
        The exit status: 0 when all went well, 2 for bad input, 1 or the job's own for a failed job.
    """
    words = list(sys.argv[1:] if args is None else args)
    own, command = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser = _parser()
    try:
        if not own:
            parser.print_help()
            return 2
        options = parser.parse_args(spell_out(JobSpec, [_with_underscores(word) for word in own]))
        run: Callable[[Namespace, list[str]], int] = globals()[f"_{options.verb}"]
        return run(options[options.verb], command)
    except KeyboardInterrupt:
        print("interrupted; a job that was submitted runs on: `python -m jobs list`", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, ArgumentError) as error:
        if os.environ.get("PIPELINE_DEBUG"):
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2


def _with_underscores(word: str) -> str:
    """`--storage-path=x-y` as `--storage_path=x-y`: both spellings of an option are taken."""
    option, equals, value = word.partition("=")
    return f"--{option[2:].replace('-', '_')}{equals}{value}" if option.startswith("--") else word


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m jobs", description=__doc__, exit_on_error=False, allow_abbrev=False)
    verbs = parser.add_subcommands(dest="verb")
    for verb, text in VERBS.items():
        each = ArgumentParser(description=text, exit_on_error=False, allow_abbrev=False)
        if verb == "submit":
            each.add_argument("--spec", action=_SpecFile, help="a YAML file of the fields below")
            each.add_argument("--wait", action="store_true", help="follow the job to its end and exit with its status")
            each.add_argument("--check", action="store_true", help="examine every node first, as `doctor` does")
            each.add_argument("--no_check", action="store_true", help="do not read the configuration here first")
            each.add_argument("--dry_run", action="store_true", help="say what would run, and start nothing")
            each.add_class_arguments(JobSpec)
        elif verb == "up":
            each.add_argument("--num_cpus", type=int | None, default=None, help="CPUs to share out; default: all")
            each.add_argument("--num_gpus", type=int | None, default=None, help="GPUs to share out; default: all")
            text = "the address of this machine to listen on, such as 10.0.0.5, so that other nodes can join"
            each.add_argument("--host", type=str, default="127.0.0.1", help=text)
            each.add_argument(
                "--port", type=int, default=0, help="of the job server; default: 8265, on loopback a free one"
            )
            each.add_argument("--ray_port", type=int, default=0, help="where other nodes join; default: 6379")
        elif verb != "down":
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


class _SpecFile(ActionConfigFile):
    """A config file whose names are checked first, for a better message."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option_string: str | None = None) -> None:
        """Called by the parser with the file's path."""
        read_spec_file(value)
        super().__call__(parser, namespace, value, option_string)  # type: ignore[no-untyped-call]


def _submit(options: Namespace, command: list[str]) -> int:
    from jobs.submit import prepare, submit

    spec = JobSpec(**{field.name: options[field.name] for field in dataclasses.fields(JobSpec)})
    if options.dry_run:
        from jobs.dry_run import describe_job

        with prepare(spec, command, read=not options.no_check, check=options.check) as (job, staged):
            print("\n".join(describe_job(job, staged)))
        return 0
    client, job_id = submit(spec, command, read=not options.no_check, check=options.check)
    return _follow(client, job_id, [f"submitted {job_id}"], options.wait)


def _follow(client: Any, job_id: str, lines: Sequence[str], wait: bool) -> int:
    """Say that a job was submitted; follow it, or say how to."""
    from jobs.client import follow

    try:
        print("\n".join(lines), flush=True)
        if wait:
            return follow(client, job_id)
        print(f"follow it with: python -m jobs logs {job_id} --follow")
        return 0
    except KeyboardInterrupt:
        print(f"\n{job_id} runs on; follow it with: python -m jobs logs {job_id} --follow", file=sys.stderr)
        print(f"end it with: python -m jobs stop {job_id}", file=sys.stderr)
        return 130


def _resume(options: Namespace, command: list[str]) -> int:
    from jobs.resume import resume

    resumed = resume(options.id, storage_path=options.storage_path, address=options.address)
    if resumed.job_id is None:
        print("\n".join(resumed.lines), flush=True)
        return 0
    return _follow(resumed.client, resumed.job_id, resumed.lines, options.wait)


def _list(options: Namespace, command: list[str]) -> int:
    from jobs.client import connect, list_jobs

    client, address = connect(options.address)
    found = list_jobs(client)
    width = max((len(str(each.submission_id)) for each in found), default=0)
    for each in found:
        words = (each.metadata or {}).get("command", each.entrypoint)
        print(
            f"{each.submission_id:<{width}}  {each.status:<9}  {_time(each.start_time)}  {_duration(each):>8}  {words}"
        )
    if not found:
        print(f"no jobs on {address}")
    return 0


def _status(options: Namespace, command: list[str]) -> int:
    from jobs.client import connect, find_job, last_words
    from jobs.progress import how_far

    client, _ = connect(options.address)
    job = find_job(client, options.id)
    metadata = job.metadata or {}
    message, reason = last_words(job)
    lines = {
        "job": job.submission_id,
        "status": job.status,
        "reason": reason or None,
        "message": message or None,
        **how_far(metadata.get("storage_path"), metadata.get("name")),
        "command": metadata.get("command", job.entrypoint),
        "started": _time(job.start_time),
        "lasted": _duration(job),
        "exit code": job.driver_exit_code,
    }
    for name, value in lines.items():
        if value is not None:
            print(f"{name + ':':<12} {value}")
    return 0


def _logs(options: Namespace, command: list[str]) -> int:
    from jobs.client import connect, find_job, follow

    client, _ = connect(options.address)
    job_id = str(find_job(client, options.id).submission_id)
    if options.follow:
        return follow(client, job_id)
    print(client.get_job_logs(job_id), end="")
    return 0


def _stop(options: Namespace, command: list[str]) -> int:
    from jobs.client import connect, find_job, stop
    from jobs.results import go_on_lines

    client, _ = connect(options.address)
    job = find_job(client, options.id)
    if job.status.is_terminal():
        print(f"{job.submission_id} has ended already: {job.status}")
        return 0
    grace = float((job.metadata or {}).get("stop_timeout_s", 30))
    print(f"{job.submission_id}: {stop(client, str(job.submission_id), timeout_s=grace + 30).status}")
    for line in go_on_lines(client.get_job_logs(str(job.submission_id))):
        print(line)
    return 0


def _up(options: Namespace, command: list[str]) -> int:
    from jobs.cluster import up

    ports = (options.port, options.ray_port)
    cluster = up(num_cpus=options.num_cpus, num_gpus=options.num_gpus, host=options.host, ports=ports)
    print(f"a local Ray cluster takes jobs at {cluster.address}; its token is in {cluster.token_path}")
    print("`python -m jobs submit` finds it by itself; `python -m jobs down` stops it")
    print("".join(f"{line}\n" for line in cluster.how_to_join()), end="")
    return 0


def _down(options: Namespace, command: list[str]) -> int:
    from jobs.cluster import down

    stopped = down()
    print(f"stopped the cluster at {stopped.address}" if stopped else "no cluster was started here")
    return 0


def _time(milliseconds: int | None) -> str:
    if not milliseconds:
        return "-"
    return datetime.datetime.fromtimestamp(milliseconds / 1000).strftime("%Y-%m-%d %H:%M:%S")


def _duration(job: Any) -> str:
    if not job.start_time:
        return "-"
    end = job.end_time or datetime.datetime.now().timestamp() * 1000
    return str(datetime.timedelta(seconds=round((end - job.start_time) / 1000)))


if __name__ == "__main__":
    sys.exit(main())
