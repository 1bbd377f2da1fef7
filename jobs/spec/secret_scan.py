"""What must not be told: names of variables, files and settings that hold secrets, and values that look like one.

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

import yaml

_WORDS = frozenset({"KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "CREDENTIALS"})
_SETTINGS = re.compile(r"(?:^|_)(?:(?:api|access|private|secret)_key|apikey|secret|token|passw(?:or)?d|credentials?)$")
_ADVICE = (
    "and a run's configuration can be read by all who see its folder; set it in the environment of the cluster's "
    "nodes instead (a local cluster: before `python -m jobs up`)"
)
_SHORTEST = 12  # characters of a secret; `unknown_token: <unk>` is none
_URL_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:(?![${])[^\s/@]+@")  # not `:${oc.env:PASSWORD}@`
_KEYS = re.compile(  # as their makers write them: OpenAI and others, AWS, Hugging Face, GitHub, GitLab, Slack, PEM
    r"(?<![A-Za-z0-9])(?:sk-(?:proj|ant|svcacct|admin|or)-[\w-]{20,}|sk-[A-Za-z0-9]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|hf_[A-Za-z0-9]{30,}|gh[oprsu]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|glpat-[\w-]{20,}|xox[a-z]-[A-Za-z0-9-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_WANDB_KEY = re.compile(r"[0-9a-f]{40}")  # a commit has this shape too, so only where the name says so
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


def secret_in(value: str, name: str = "") -> str | None:
    """What a value holds that must not be told, in words, whatever it is called; None where there is nothing.

    Args:
        value: Of a variable, a setting or an option.
        name: Its name, or its place in a configuration.
    """
    if _URL_PASSWORD.search(value):
        return "holds an address with a password"
    if _KEYS.search(value):
        return "holds what has the shape of a key"
    if _WANDB_KEY.fullmatch(value.strip()) and re.search(r"wandb|(?:^|[_.])key$", name.lower()):
        return "holds what has the shape of a Weights & Biases key"
    return None


def refuse_secrets_in_file(text: str, where: str) -> None:
    """ValueError for a config file that travels, comments too, with such a value or a setting that is a secret.

    Args:
        text: What the file holds; YAML that can be read.
        where: What the message calls it.
    """
    try:
        refuse_secrets(yaml.safe_load(text))
        for number, line in enumerate(text.splitlines(), start=1):
            if said := secret_in(line):
                raise ValueError(f"line {number} {said}, {_ADVICE}")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


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
    """ValueError, without the value, for a setting of a configuration or a command line that is, or holds, a secret.

    Args:
        configuration: Plain data, as read from YAML.
        args: A command line: the names and values of `--name VALUE` and `--name=VALUE`, the values of all words.
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
            raise ValueError(f"{place}: looks like a secret, {_ADVICE}")
        if said := secret_in(value, place):
            raise ValueError(f"{place}: {said}, {_ADVICE}")
    for number, word in enumerate(args, start=1):
        if said := secret_in(word):
            raise ValueError(f"word {number} of the command {said}, {_ADVICE}")


def _strings(content: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _strings(value, f"{place}.{name}".lstrip("."))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from _strings(value, f"{place}.{number}")
    elif isinstance(content, str):
        yield place, content
