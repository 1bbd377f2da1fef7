"""Checks on this machine before a job reaches a cluster: verb, configuration, dataset, Trainer settings."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from datamodules.dataset.manifest import read_manifest
from datamodules.splits.split_file import read_split_file
from jobs.spec.job_spec import JobSpec
from jobs.spec.upload_paths import resolve_upload_paths
from pipeline.cli.errors import suggest
from pipeline.cli.verbs import LIGHTNING_VERBS, VERBS
from pipeline.processes.killable_process import KillableProcess, ProcessDied, ProcessHung
from pipeline.training.resolved_configuration import resolve_in_upload

CHECK_TIMEOUT_S = 300.0
NOTHING_TO_RUN = "nothing to run: put the command behind `--`, as in `submit --spec S.yaml -- fit --config C.yaml`"


def check_verb(args: Sequence[str]) -> None:
    """Raise ValueError, which suggests the closest verb, for a verb that `python -m pipeline` does not have."""
    verbs = [*LIGHTNING_VERBS, *VERBS, "doctor"]
    if not args:
        raise ValueError(NOTHING_TO_RUN)
    if args[0] not in verbs:
        hint = suggest(args[0], verbs, f"the verbs are: {', '.join(verbs)}")
        raise ValueError(f"there is no verb {args[0]!r}; {hint}")


def check_configuration(args: Sequence[str], staged: Path, origin: Path) -> str:
    """Read the configuration in a child process with the uploaded code, as a train worker will.

    Args:
        args: The command line from the verb on, with its `upload:` paths.
        staged: The folder of the upload.
        origin: The folder of submit, from which relative paths start.

    Returns:
        The whole configuration, defaults too, as YAML.

    Raises:
        ValueError: the configuration cannot be read; the message holds the reason that the command gives.
    """
    environment = os.environ | {"PYTHONPATH": str(staged)}
    with KillableProcess(environment, origin, inherit_path=False) as child:
        try:
            text, missing = child.call(
                resolve_in_upload, resolve_upload_paths(args, staged), staged.resolve(), timeout=CHECK_TIMEOUT_S
            )
        except ProcessHung as error:
            raise ValueError(
                f"the configuration cannot be read: {error}; does a module of yours do work when it is imported?"
            ) from None
        except (ValueError, ProcessDied) as error:
            message = " ".join(str(error).split()).replace(str(staged), "UPLOAD")
            hint = (
                "; modules of yours from outside this folder travel with `py_modules`"
                if "No module named" in message
                else ""
            )
            raise ValueError(f"the configuration cannot be read: {message}{hint}") from None
    for name, path in missing.items():
        print(
            f"note: the module {name} is read from {path} here and does not travel; unless the nodes have it, "
            "name it under `py_modules`",
            file=sys.stderr,
        )
    return text


def check_dataset_folder(resolved: str) -> None:
    """Check that the dataset of a job on this machine exists, and its split file.

    Only datasets of `ShardedVideoDataModule` are checked: the options of other data modules are unknown.

    Args:
        resolved: The whole configuration, as YAML.

    Raises:
        ShardFormatError: There is no finished dataset in the folder.
        SplitFileError: There is no such split file, or it is invalid.
    """
    data = yaml.safe_load(resolved).get("data") or {}
    options = data.get("init_args") or {}
    root, split_file = options.get("root"), options.get("split_file")
    if data.get("class_path") == "datamodules.ShardedVideoDataModule" and root and "://" not in str(root):
        read_manifest(Path(root))
        if split_file is not None:
            read_split_file(split_file, Path(root))


def check_network_folders(resolved: str, is_local: bool) -> list[str]:
    """Check that the nodes can see the folder of a pretrained network: it does not travel, no more than a dataset.

    Args:
        resolved: The whole configuration, as YAML.
        is_local: Whether the cluster is this machine.

    Returns:
        A sentence for each folder that the nodes must have too.

    Raises:
        ValueError: A relative path, which nodes do not have, or on this machine a folder that does not exist.
    """
    configuration = yaml.safe_load(resolved)
    if configuration.get("ckpt_path"):  # the checkpoint holds what the folder would say
        return []
    options = (configuration.get("model") or {}).get("init_args") or {}
    notes = []
    for option in ("encoder", "network"):
        library, _, name = str(options.get(option) or "").partition(":")
        folder = Path(name).expanduser()
        if library != "transformers" or not (folder.is_absolute() or name.startswith(".") or folder.is_dir()):
            continue  # a name on the hub
        given = f"model.init_args.{option}={library}:{name}"
        if not folder.is_dir() and is_local:
            raise ValueError(f"{given}: there is no such folder")
        if not is_local and not folder.is_absolute():
            raise ValueError(f"{given}: nodes do not have it; give its path on storage that they share, or a name")
        if not is_local:
            notes.append(f"{given} is read on the nodes and does not travel; each must have it")
    return notes


def replaced_settings(resolved: str, spec: JobSpec) -> list[str]:
    """Find the Trainer settings of devices and ranks that the spec replaces under Ray.

    Args:
        resolved: The whole configuration, as YAML.
        spec: The job's spec.

    Returns:
        A sentence for each setting that has no effect.
    """
    trainer = yaml.safe_load(resolved).get("trainer") or {}
    if str(_setting_name(trainer.get("strategy"))).rpartition(".")[2] in ("DDPStrategy", "RayDDPStrategy"):
        trainer["strategy"] = "ddp"  # Ray's is a subclass, which takes over the options
    elif str(_setting_name(trainer.get("strategy"))).endswith("FullyShardedStrategy"):
        trainer["strategy"] = "fsdp2"
    accelerator = "gpu" if spec.gpus_per_worker else "cpu"
    neutral = {"strategy": ("auto", "ddp", "fsdp2"), "devices": ("auto", 1, "1"), "num_nodes": (1,)}
    neutral["accelerator"] = ("auto", accelerator, *(("cuda",) if spec.gpus_per_worker else ()))
    replacement = f"the spec's num_workers={spec.num_workers}, gpus_per_worker={spec.gpus_per_worker} hold in its place"
    return [
        f"trainer.{name}={_setting_name(trainer[name])} is for runs without Ray; {replacement}"
        for name, values in neutral.items()
        if trainer.get(name, values[0]) not in values
    ]


def _setting_name(setting: object) -> object:
    return setting.get("class_path", setting) if isinstance(setting, dict) else setting
