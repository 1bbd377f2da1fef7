"""`python -m jobs VERB`: submit a `python -m pipeline` command to a Ray cluster, and manage it.

python -m jobs submit --spec jobs/configs/cpu_2_workers.yaml -- fit --config pipeline/configs/demo.yaml
python -m jobs tune --space SPACE.yaml --spec SPEC.yaml -- fit --config CONFIG.yaml
python -m jobs list
python -m jobs status|logs|stop|resume [ID]
python -m jobs up|down
python -m jobs serve --checkpoint runs/demo/last.ckpt

JOBS_STATE_DIR is the folder where the local cluster, its token and the jobs submitted from here are remembered;
default: action-recognition-pipeline under XDG_STATE_HOME, else under ~/.local/state.
"""

import dataclasses
import datetime
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentError, Namespace

from jobs.cli import explain_parser_error, make_parser, parse
from jobs.spec.job_spec import JobSpec
from pipeline.cli.terminal import escape_unencodable_characters, print_text


def main(args: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        args: The arguments after `python -m jobs`; None: the arguments of this process.

    Returns:
        The exit status: 0 for success, 2 for bad input, 130 after Ctrl-C; for a failed job its exit status, or 1.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    has_command = "--" in arguments
    end = arguments.index("--") if has_command else len(arguments)
    own_arguments, command = arguments[:end], arguments[end + 1 :]
    parser = make_parser(__doc__)
    escape_unencodable_characters()
    try:
        if not own_arguments:
            parser.print_help()
            return 2
        if own_arguments[0] == "serve" and not has_command:
            return _serve(own_arguments[1:])
        options = parse(parser, own_arguments, has_command=has_command)
        return _VERBS[options.verb](options[options.verb], command)
    except KeyboardInterrupt:
        print("interrupted; a job that was submitted runs on: `python -m jobs list`", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, ArgumentError) as error:
        if os.environ.get("PIPELINE_DEBUG"):
            raise
        print_text(f"error: {explain_parser_error(error)}", sys.stderr)
        return 2


def _tune(options: Namespace, command: list[str]) -> int:
    from jobs.submission.search_status import describe_status, search_command

    if options.status is not None:
        print("\n".join(describe_status(options.status, options.address)))
        return 0
    if options.resume is not None:
        return _follow_resumed(options.resume, None, options)
    return _submit(options, search_command(options.space, command))


def _submit(options: Namespace, command: list[str]) -> int:
    from jobs.storage.finished_run import RunFinishedError

    try:
        return _submit_unfinished(options, command)
    except RunFinishedError as finished:
        print("\n".join(finished.lines))
        return 0


def _submit_unfinished(options: Namespace, command: list[str]) -> int:
    from jobs.submission.submit import prepare_job, submit

    spec = JobSpec(**{field.name: options[field.name] for field in dataclasses.fields(JobSpec)})
    if options.dry_run:
        from jobs.submission.dry_run import describe_job

        with prepare_job(spec, command, read_config=not options.no_check, check_nodes=options.check) as (job, staged):
            print("\n".join(describe_job(job, staged)))
        return 0
    client, job_id = submit(spec, command, read_config=not options.no_check, check_nodes=options.check)
    return _follow(client, job_id, [f"submitted {job_id}"], options.wait)


def _follow(client: Any, job_id: str, lines: Sequence[str], wait: bool) -> int:
    """Print that a job was submitted; follow its log, or print the command for that."""
    from jobs.client.job_log import follow

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
    return _follow_resumed(options.id, options.storage_path, options)


def _follow_resumed(job_name: str | None, storage_path: str | None, options: Namespace) -> int:
    from jobs.submission.resume import resume

    result = resume(job_name, storage_path=storage_path, address=options.address)
    if result.job_id is None:
        print("\n".join(result.lines), flush=True)
        return 0
    return _follow(result.client, result.job_id, result.lines, options.wait)


def _list(options: Namespace, command: list[str]) -> int:
    from jobs.client.job_server import connect, list_jobs

    client, address = connect(options.address)
    jobs = list_jobs(client)
    width = max((len(str(each.submission_id)) for each in jobs), default=0)
    for each in jobs:
        times = f"{_time(each.start_time)}  {_duration(each):>8}"
        command_line = (each.metadata or {}).get("command", each.entrypoint)
        print(f"{each.submission_id:<{width}}  {each.status:<9}  {times}  {command_line}")
    if not jobs:
        print(f"no jobs on {address}")
    return 0


def _status(options: Namespace, command: list[str]) -> int:
    from jobs.client.job_server import connect, find_job, split_message
    from jobs.client.run_status import find_outcome, run_progress
    from jobs.storage.job_outcome import describe_outcome

    client, _ = connect(options.address)
    job = find_job(client, options.id)
    metadata = job.metadata or {}
    message, log = split_message(job)
    outcome = find_outcome(job, log)
    lines = {
        "job": job.submission_id,
        "status": job.status,
        "reason": describe_outcome(outcome)[0] if outcome is not None and outcome.kind != "finished" else None,
        "message": message or None,
        **run_progress(metadata.get("storage_path"), metadata.get("name")),
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
    from jobs.client.job_log import follow
    from jobs.client.job_server import connect, find_job
    from jobs.storage.job_outcome import hide_outcome

    client, _ = connect(options.address)
    job_id = str(find_job(client, options.id).submission_id)
    if options.follow:
        return follow(client, job_id)
    print(hide_outcome(client.get_job_logs(job_id)), end="")
    return 0


def _stop(options: Namespace, command: list[str]) -> int:
    from jobs.client.job_server import connect, find_job, stop_job
    from jobs.client.run_status import find_outcome
    from jobs.storage.job_outcome import describe_resume

    client, _ = connect(options.address)
    job = find_job(client, options.id)
    if job.status.is_terminal():
        print(f"{job.submission_id} has ended already: {job.status}")
        return 0
    stop_timeout_s = float((job.metadata or {}).get("stop_timeout_s", 30))
    stopped = stop_job(client, str(job.submission_id), timeout_s=stop_timeout_s + 30)
    print(f"{job.submission_id}: {stopped.status}")
    outcome = find_outcome(stopped, client.get_job_logs(str(job.submission_id)))
    print("".join(f"{line}\n" for line in describe_resume(outcome)) if outcome is not None else "", end="")
    return 0


def _up(options: Namespace, command: list[str]) -> int:
    from jobs.client.local_cluster import check_resources, start_cluster

    ports = (options.port, options.ray_port)
    cluster = start_cluster(num_cpus=options.num_cpus, num_gpus=options.num_gpus, host=options.host, ports=ports)
    check_resources(cluster, options.num_cpus, options.num_gpus)  # the cluster may have been running already
    print(f"a local Ray cluster takes jobs at {cluster.address}; its token is in {cluster.token_path}")
    print("`python -m jobs submit` finds it by itself; `python -m jobs down` stops it")
    print("".join(f"{line}\n" for line in cluster.join_instructions()), end="")
    return 0


def _down(options: Namespace, command: list[str]) -> int:
    from jobs.client.local_cluster import stop_cluster

    stopped = stop_cluster()
    print(f"stopped the cluster at {stopped.address}" if stopped else "no cluster was started here")
    return 0


def _serve(arguments: list[str]) -> int:
    if arguments in (["--status"], ["--stop"]):  # at once: the options import torch
        from jobs.service.service_commands import print_status, stop_service

        return print_status() if arguments == ["--status"] else stop_service()
    from jobs.client.ray_head import LOCAL_DRIVER_VARIABLES
    from jobs.service.service_options import ServiceOptions
    from pipeline.cli.arguments import call_from_command_line

    options: ServiceOptions = call_from_command_line(ServiceOptions, arguments, "python -m jobs serve")
    if options.address is None:
        os.environ |= LOCAL_DRIVER_VARIABLES  # before the first import of ray
    try:
        from jobs.service.serve import serve
    except ModuleNotFoundError as error:
        raise ValueError(f"serve needs {error.name}: pip install 'action-recognition-pipeline[serve]'") from None
    return serve(options)


def _time(milliseconds: int | None) -> str:
    if not milliseconds:
        return "-"
    return datetime.datetime.fromtimestamp(milliseconds / 1000).strftime("%Y-%m-%d %H:%M:%S")


def _duration(job: Any) -> str:
    if not job.start_time:
        return "-"
    end = job.end_time or datetime.datetime.now().timestamp() * 1000
    return str(datetime.timedelta(seconds=round((end - job.start_time) / 1000)))


_VERBS: dict[str, Callable[[Namespace, list[str]], int]] = {
    "submit": _submit,
    "tune": _tune,
    "list": _list,
    "status": _status,
    "logs": _logs,
    "stop": _stop,
    "resume": _resume,
    "up": _up,
    "down": _down,
}


if __name__ == "__main__":
    sys.exit(main())
