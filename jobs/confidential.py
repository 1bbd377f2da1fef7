"""What must not be told: names of variables, files and settings that hold secrets.

A job's environment, its spec, its configuration and its upload can be read by everyone who reaches the cluster's
dashboard or the run's folder. So what looks like a secret is refused, or stays behind; secrets belong in the
environment of the cluster's nodes.
"""

import fnmatch
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

_WORDS = frozenset({"KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "CREDENTIALS"})
_SETTINGS = re.compile(r"(?:^|_)(?:(?:api|access|private|secret)_key|apikey|secret|token|passw(?:or)?d|credentials?)$")
_SHORTEST = 12  # characters of a secret; `unknown_token: <unk>` is none
# Never uploaded, whatever `include` says. Python modules may have such names (secrets.py, tokens.py).
_FILES = (
    *(".env", ".env.*", "*.env", ".netrc", "_netrc", ".pypirc", ".pgpass", ".npmrc", ".git-credentials", ".htpasswd"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.gpg", "*.asc", "id_rsa*"),
    *("id_dsa*", "id_ecdsa*", "id_ed25519*", "credentials", "kubeconfig", "*service_account*.json"),
    *("*secret*", "*credential*", "*password*", "*api_key*", "*apikey*", "*auth_token*", "*token.*"),
)
_FOLDERS = frozenset({".ssh", ".aws", ".azure", ".gcloud", ".kube", ".docker", ".gnupg", ".git"})


def looks_secret(variable: str) -> bool:
    """Whether an environment variable of that name holds a secret: WANDB_API_KEY, hf_token."""
    return bool(_WORDS & set(variable.upper().split("_")))


def is_secret_file(path: PurePath) -> bool:
    """Whether a file's name, or a folder that it is in, says that it holds secrets.

    Args:
        path: Relative to the folder of submit.
    """
    if _FOLDERS & set(path.parts[:-1]):
        return True
    name = path.name.lower()
    return path.suffix != ".py" and any(fnmatch.fnmatchcase(name, pattern) for pattern in _FILES)


def refuse_secrets(configuration: Any, args: Sequence[str] = ()) -> None:
    """ValueError, without the value, for a setting of a configuration or a command line that looks like a secret.

    Args:
        configuration: Plain data, as read from YAML.
        args: A command line; `--name VALUE` and `--name=VALUE` are looked at.
    """
    typed: dict[str, str] = {}
    for option, following in itertools.pairwise([*args, ""]):
        name, equals, value = option.partition("=")
        if name.startswith("--"):
            typed[name.removeprefix("--")] = value if equals else following
    for place, value in [*_strings(configuration, ""), *typed.items()]:
        name = place.rpartition(".")[2].lower()
        is_path = value.startswith(("/", "./", "../", "~"))
        if _SETTINGS.search(name) and len(value) >= _SHORTEST and " " not in value and not is_path:
            raise ValueError(
                f"{place}: looks like a secret, and a run's configuration can be read by all who see its folder; set "
                "it in the environment of the cluster's nodes instead (a local cluster: before `python -m jobs up`)"
            )


def _strings(content: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _strings(value, f"{place}.{name}".lstrip("."))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from _strings(value, f"{place}.{number}")
    elif isinstance(content, str):
        yield place, content
