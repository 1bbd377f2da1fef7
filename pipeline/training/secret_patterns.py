"""Secrets in configurations: the names of variables and settings that hold them, and values that look like one.

What is sent to Weights & Biases has them hidden; a job with one of them is refused (jobs/spec/secret_scan.py).
"""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "(hidden)"

_WORDS = r"(?:api|access|private|secret)_?key|secret|token|passw(?:or)?d|credentials?"
_VARIABLE = re.compile(rf"(?:^|_)(?:{_WORDS}|key)(?:_|$)", re.IGNORECASE)
_SETTING = re.compile(rf"(?:^|_)(?:{_WORDS})$", re.IGNORECASE)
_ANYWHERE = re.compile(rf"(?:{_WORDS})(?!i[sz])", re.IGNORECASE)  # authToken, but not tokenizer
_SHORTEST = 12  # characters of a secret; `unknown_token: <unk>` is none
_USER_IN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@]+@")
_PASSWORD_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:(?![${])[^\s/@]+@")  # not `:${oc.env:PASSWORD}@`
_KEYS = re.compile(  # as their makers write them: OpenAI and others, AWS, Hugging Face, GitHub, GitLab, Slack, PEM
    r"(?<![A-Za-z0-9])(?:sk-(?:proj|ant|svcacct|admin|or)-[\w-]{20,}|sk-[A-Za-z0-9]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|hf_[A-Za-z0-9]{30,}|gh[oprsu]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|glpat-[\w-]{20,}|xox[a-z]-[A-Za-z0-9-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_WANDB_KEY = re.compile(r"[0-9a-f]{40}")  # a commit has this shape too, so only where the name says so


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable of that name holds a secret: WANDB_API_KEY, hf_token."""
    return _VARIABLE.search(name) is not None


def is_secret_setting(name: str, value: str) -> bool:
    """Whether a setting is a secret by its name: a value that is short, a sentence or a path is none."""
    is_path = value.startswith(("/", "./", "../", "~"))
    return bool(_SETTING.search(name)) and len(value) >= _SHORTEST and " " not in value and not is_path


def find_secret(value: str, name: str = "") -> str | None:
    """Describe the secret that a value holds, whatever it is called; None where it holds none.

    Args:
        value: Of a variable, a setting or an option.
        name: Its name, or its place in a configuration.
    """
    if _PASSWORD_IN_URL.search(value):
        return "holds an address with a password"
    if _KEYS.search(value):
        return "holds what has the shape of a key"
    if _WANDB_KEY.fullmatch(value.strip()) and re.search(r"wandb|(?:^|[_.])key$", name.lower()):
        return "holds what has the shape of a Weights & Biases key"
    return None


def without_secrets(value: Any) -> Any:
    """A copy of plain data with `(hidden)` for secrets: values by their name, keys, user and password in addresses."""
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if _ANYWHERE.search(str(name)) and item is not None else without_secrets(item)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(item) for item in value]
    return _KEYS.sub(HIDDEN, _USER_IN_URL.sub(rf"\1{HIDDEN}@", value)) if isinstance(value, str) else value
