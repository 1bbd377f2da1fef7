"""From a JobSpec and a command line to a running Ray job.

Checked before anything reaches the cluster: the spec, the verb, that every config is there, that the staged copy alone
is enough to read the configuration (a module of the user's that did not travel is missed here, in seconds, and not on
the cluster), that the dataset is there where the cluster is this machine, the size of the upload, and that no job of
the same name is running.
"""

import dataclasses
import difflib
import itertools
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from ray.job_submission import JobSubmissionClient

from datamodules.manifest import read_manifest
from jobs.client import connect, is_local, list_jobs
from jobs.spec import JOB_FILE, OVERLAY_FILE, RESOLVED_FILE, Job, JobSpec
from jobs.staging import CONFIG_FLAGS, resolve, stage
from pipeline.__main__ import LIGHTNING_VERBS, VERBS

CHECK_S = 300.0


def submit(spec: JobSpec, args: Sequence[str], *, check: bool = True) -> tuple[JobSubmissionClient, str]:
    """Submit `python -m pipeline ARGS` to the cluster; where there is none, start a local one.

    Args:
        spec: What the job needs.
        args: The command line from the verb on, such as ["fit", "--config", "pipeline/configs/demo.yaml"].
        check: Read the configuration here first, which takes some seconds.

    Returns:
        The client of the cluster and the id of the job.

    Raises:
        ValueError: the verb, an argument or the upload is wrong.
        FileNotFoundError: a config is missing.
        ConnectionError: the cluster cannot be reached.
    """
    check_verb(args)
    origin = Path.cwd()
    job = Job(spec=_completed(spec, args, origin), origin=str(origin))
    with tempfile.TemporaryDirectory(prefix="arp-upload-") as folder:
        staged = Path(folder)
        uploaded = stage(args, origin, staged, include=spec.include, exclude=spec.exclude)
        job.write(staged)
        (staged / OVERLAY_FILE).write_text(overlay(spec), encoding="utf-8")
        if check and args[0] in LIGHTNING_VERBS:
            resolved = check_configuration(uploaded, staged, origin)
            (staged / RESOLVED_FILE).write_text(resolved, encoding="utf-8")
            for note in replaced_settings(resolved, spec):
                print(f"note: {note}", file=sys.stderr)
            if is_local(spec.address):
                check_data(resolved)
        elif check and args[0] == "pack":
            from jobs.pack import pack_options  # here: it imports what reads videos

            pack_options(args[1:])
        client, _ = connect(spec.address, start_with_cpus=spec.num_workers * spec.cpus_per_worker)
        _check_name_is_free(client, job.spec)
        job_id = client.submit_job(
            entrypoint=shlex.join(["python", "-m", "jobs.driver", JOB_FILE, "--", *uploaded]),
            submission_id=f"{job.spec.name}-{secrets.token_hex(2)}",
            runtime_env={"working_dir": folder, "env_vars": environment(job.spec)},
            metadata={
                "name": str(job.spec.name),
                "storage_path": job.spec.storage_path,
                "command": shlex.join(args),
                "stop_timeout_s": str(job.spec.stop_timeout_s),
            },
        )
    return client, job_id


def overlay(spec: JobSpec) -> str:
    """`configs/ray.yaml` with the spec's values filled in."""
    content = yaml.safe_load((Path(__file__).parent / "configs" / "ray.yaml").read_text(encoding="utf-8"))
    report = content["trainer"]["callbacks+"][0]["init_args"]
    report |= {"every_n_steps": spec.checkpoint_every_n_steps, "every_minutes": spec.checkpoint_every_minutes}
    report |= {"monitor": spec.monitor, "monitor_mode": spec.monitor_mode}
    content["trainer"]["accelerator"] = "gpu" if spec.gpus_per_worker else "cpu"
    return str(yaml.safe_dump(content))


def check_verb(args: Sequence[str]) -> None:
    """ValueError for a verb that `python -m pipeline` does not have, with the nearest that it has."""
    verbs = [*LIGHTNING_VERBS, *VERBS]
    if not args:
        raise ValueError(
            "nothing to run: put the command behind `--`, as in `submit --spec S.yaml -- fit --config C.yaml`"
        )
    if args[0] not in verbs:
        nearest = difflib.get_close_matches(args[0], verbs, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"the verbs are: {', '.join(verbs)}"
        raise ValueError(f"there is no verb {args[0]!r}; {hint}")


def check_configuration(args: Sequence[str], staged: Path, origin: Path) -> str:
    """Read the configuration with nothing but the staged code, as a train worker will.

    Returns:
        The whole configuration, defaults too, as YAML.

    Raises:
        ValueError: it cannot be read; the message is the command's own.
    """
    command = [sys.executable, "-P", "-c", "import sys; from pipeline.__main__ import main; sys.exit(main())"]
    environment = os.environ | {"PYTHONPATH": str(staged)}
    finished = subprocess.run(
        [*command, *resolve(args, staged), "--print_config"],
        cwd=origin,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CHECK_S,
        check=False,
    )
    if finished.returncode != 0:
        lines = [line.rstrip() for line in finished.stderr.splitlines() if line.strip()]
        errors = [number for number, line in enumerate(lines) if line.lower().startswith("error:")]
        said = " ".join(lines[errors[-1] :] if errors else lines[-1:]).replace(str(staged), "UPLOAD")
        raise ValueError(f"the configuration cannot be read: {said.removeprefix('error: ')}")
    return finished.stdout


def check_data(resolved: str) -> None:
    """See that the dataset of a job on this machine is there; of others' data modules nothing is known.

    Args:
        resolved: The whole configuration, as YAML.

    Raises:
        ShardFormatError: There is no finished dataset in the folder.
    """
    data = yaml.safe_load(resolved).get("data") or {}
    root = (data.get("init_args") or {}).get("root")
    if data.get("class_path") == "datamodules.video.ShardedVideoDataModule" and root and "://" not in str(root):
        read_manifest(Path(root))


def replaced_settings(resolved: str, spec: JobSpec) -> list[str]:
    """What the configuration says of devices and ranks, which under Ray the spec says.

    Args:
        resolved: The whole configuration, as YAML.
        spec: The job's spec.

    Returns:
        A sentence for each setting of the Trainer that will not hold.
    """
    trainer = yaml.safe_load(resolved).get("trainer") or {}
    accelerator = "gpu" if spec.gpus_per_worker else "cpu"
    held = {"strategy": ("auto", "ddp"), "devices": ("auto", 1, "1"), "num_nodes": (1,)}
    held["accelerator"] = ("auto", accelerator, *(("cuda",) if spec.gpus_per_worker else ()))
    by = f"the spec's num_workers={spec.num_workers}, gpus_per_worker={spec.gpus_per_worker} hold in its place"
    return [
        f"trainer.{name}={_shown(trainer[name])} is for runs without Ray; {by}"
        for name, values in held.items()
        if trainer.get(name, values[0]) not in values
    ]


def _shown(setting: object) -> object:
    return setting.get("class_path", setting) if isinstance(setting, dict) else setting


def environment(spec: JobSpec) -> dict[str, str]:
    """The environment variables of the driver and of every train worker."""
    threads = str(spec.threads)
    variables = {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # 2 s, the default, loses a checkpoint reported before a crash
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(spec.start_timeout_s),
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # with it every line printed by a rank appears twice
        "RAY_COLOR_PREFIX": "0",  # the log is a file
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": str(spec.stop_timeout_s),
    }
    if spec.wandb_mode != "auto":
        variables["WANDB_MODE"] = spec.wandb_mode
    return variables | spec.env


def _completed(spec: JobSpec, args: Sequence[str], origin: Path) -> JobSpec:
    """With a name, and a storage path that means the same everywhere."""
    storage = spec.storage_path
    if "://" not in storage:
        storage = os.path.normpath(origin / Path(storage).expanduser())
    return dataclasses.replace(spec, name=spec.name or _name(args), storage_path=storage)


def _name(args: Sequence[str]) -> str:
    """The last config's file name, else the verb, and the time."""
    configs = [arg.partition("=")[2] for arg in args if arg.partition("=")[0] in CONFIG_FLAGS and "=" in arg]
    configs += [value for flag, value in itertools.pairwise(args) if flag in CONFIG_FLAGS]
    stem = Path(configs[-1]).stem if configs else args[0]
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem).strip("-")
    return f"{plain or 'job'}-{time.strftime('%Y%m%d-%H%M%S')}"


def _check_name_is_free(client: JobSubmissionClient, spec: JobSpec) -> None:
    for each in list_jobs(client):
        metadata = each.metadata or {}
        same = (metadata.get("name"), metadata.get("storage_path")) == (spec.name, spec.storage_path)
        if same and not each.status.is_terminal():
            raise ValueError(
                f"name={spec.name}: the job {each.submission_id} is writing to {spec.storage_path}/{spec.name}; "
                f"give another --name, or end it with `python -m jobs stop {each.submission_id}`"
            )
