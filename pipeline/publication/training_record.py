"""What a published folder says of the training: arguments, data and configuration, without this machine's paths."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lightning_modules.networks.video_libraries import LIBRARY_PREFIXES
from pipeline.cli.config_files import describe_yaml_error
from pipeline.training.run_folder import CONFIGURATION
from pipeline.training.secret_patterns import find_secret, without_secrets

TRAINING_NAME = "training.yaml"
_CHECKPOINTS = "checkpoints"  # the folder of a run that holds most checkpoints
_PLACES = ("/", "~", "./", "../")


def without_folders(value: Any) -> Any:
    """Plain data with the name alone of each path that begins with a place on this machine.

    >>> without_folders({"root": "/home/me/shards", "network": "transformers:~/mae", "encoder": "transformers:a/b"})
    {'root': 'shards', 'network': 'transformers:mae', 'encoder': 'transformers:a/b'}
    """
    if isinstance(value, Mapping):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    prefix = next((prefix for prefix in (*LIBRARY_PREFIXES, "file://") if value.startswith(prefix)), "")
    path = value.removeprefix(prefix)
    return prefix.removesuffix("file://") + Path(path).name if path.startswith(_PLACES) else value


def published_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a network for others, without folders of this machine.

    Raises:
        ValueError: one of them looks like a secret.
    """
    published = {
        name: without_folders(value) if isinstance(value, str) else value  # lists have words and names of classes
        for name, value in arguments.items()
    }
    initial = published.get("weights")  # a checkpoint that is not needed any more
    if isinstance(initial, str) and Path(initial).suffix:
        published["weights"] = Path(initial).name
    for name, value in published.items():
        found = find_secret(value, name) if isinstance(value, str) else None
        if found:
            raise ValueError(f"{name}: this argument of the network {found}, which must not be published")
    return published


def published_dataset(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Identity of the training data for others: without the folder that it was read from."""
    published: dict[str, Any] = without_folders({name: dataset[name] for name in dataset if name != "root"})
    return published


def find_configuration(checkpoint: Path) -> Path | None:
    """The resolved configuration of the run that a checkpoint belongs to, or that a published folder has; or None."""
    if checkpoint.is_dir():
        path = checkpoint / TRAINING_NAME
        return path if path.is_file() else None
    for folder in (checkpoint.absolute().parent, checkpoint.resolve().parent):
        path = (folder.parent if folder.name == _CHECKPOINTS else folder) / CONFIGURATION
        if path.is_file():
            return path
    return None


def published_configuration(path: Path) -> str:
    """The configuration of a training for others, as YAML.

    Raises:
        ValueError: not a YAML file of options.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"training_config={str(path)!r}: not a YAML file: {describe_yaml_error(error)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"training_config={str(path)!r}: holds no options; give the config.yaml of the run")
    plain = without_secrets(without_folders(content))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
