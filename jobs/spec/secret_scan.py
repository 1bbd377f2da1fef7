"""Secrets that must not travel with a job: in its command line, its configuration files and its upload.

A job's environment, its spec, its configuration and its upload can be read by everyone who reaches the cluster's
dashboard or the run's folder. So what looks like a secret is refused, or stays behind; secrets belong in the
environment of the cluster's nodes.
"""

import fnmatch
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from pipeline.training.secret_patterns import find_secret, is_secret_setting

_ADVICE = (
    "and a run's configuration can be read by all who see its folder; set it in the environment of the cluster's "
    "nodes instead (a local cluster: before `python -m jobs up`)"
)
# Never uploaded, whatever `include` says. Python modules may have such names (secrets.py, tokens.py).
_SECRET_FILES = (
    *(".env", ".env.*", "*.env", ".netrc", "_netrc", ".pypirc", ".pgpass", ".npmrc", ".git-credentials", ".htpasswd"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.gpg", "*.asc", "id_rsa*"),
    *("id_dsa*", "id_ecdsa*", "id_ed25519*", "credentials", "kubeconfig", "*service_account*.json"),
    *("*secret*", "*credential*", "*password*", "*api_key*", "*apikey*", "*auth_token*", "*token.*"),
)
_SECRET_FOLDERS = frozenset({".ssh", ".aws", ".azure", ".gcloud", ".kube", ".docker", ".gnupg", ".git"})


def refuse_secrets_in_file(text: str, file_name: str) -> None:
    """Raise ValueError if a config file to upload holds a secret, in a setting or in a comment.

    Args:
        text: The content of the file; valid YAML.
        file_name: The name of the file in the error message.
    """
    try:
        refuse_secrets(yaml.safe_load(text))
        for number, line in enumerate(text.splitlines(), start=1):
            if description := find_secret(line):
                raise ValueError(f"line {number} {description}, {_ADVICE}")
    except ValueError as error:
        raise ValueError(f"{file_name}: {error}") from None


def is_secret_file(path: PurePath) -> bool:
    """Whether a file's name, or a folder that it is in, suggests that it holds secrets.

    Args:
        path: The path of the file, relative to the folder of submit.
    """
    if _SECRET_FOLDERS & set(path.parts[:-1]):
        return True
    name = path.name.lower()
    return path.suffix != ".py" and any(fnmatch.fnmatchcase(name, pattern) for pattern in _SECRET_FILES)


def refuse_secrets(configuration: Any, args: Sequence[str] = ()) -> None:
    """Raise ValueError for a secret in a configuration or a command line; the message does not show its value.

    Args:
        configuration: Plain data, as read from YAML.
        args: A command line. The options (`--name VALUE`, `--name=VALUE`) are checked by name and value, all arguments
            by value.
    """
    options: dict[str, str] = {}
    for option, following in itertools.pairwise([*args, ""]):
        name, equals, value = option.partition("=")
        if name.startswith("--"):
            options[name.removeprefix("--")] = value if equals else following
    for key, value in [*_strings(configuration, ""), *options.items()]:
        name = key.rpartition(".")[2]
        if is_secret_setting(name, value):
            raise ValueError(f"{key}: looks like a secret, {_ADVICE}")
        if description := find_secret(value, key):
            raise ValueError(f"{key}: {description}, {_ADVICE}")
    for number, argument in enumerate(args, start=1):
        if description := find_secret(argument):
            raise ValueError(f"argument {number} of the command {description}, {_ADVICE}")


def _strings(content: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _strings(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from _strings(value, f"{key}.{number}")
    elif isinstance(content, str):
        yield key, content
