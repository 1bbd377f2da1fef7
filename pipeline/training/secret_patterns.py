"""Detection of secrets in configurations, by the names of variables and settings and by the shape of values.

Secrets are hidden in what is sent to Weights & Biases; a job that contains one is refused (jobs/spec/secret_scan.py).
"""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "(hidden)"

_WORDS = r"(?:api|access|private|secret)_?key|secret|token|passw(?:or)?d|credentials?"
_VARIABLE = re.compile(rf"(?:^|_)(?:{_WORDS}|key)(?:_|$)", re.IGNORECASE)
_SETTING = re.compile(rf"(?:^|_)(?:{_WORDS})$", re.IGNORECASE)
_ANYWHERE = re.compile(rf"(?:{_WORDS})(?!i[sz])", re.IGNORECASE)  # authToken, but not tokenizer
_SHORTEST = 12  # minimum length of a secret in characters; `unknown_token: <unk>` is none
_USER_IN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@]+@")
_PASSWORD_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:(?![${])[^\s/@]+@")  # not `:${oc.env:PASSWORD}@`
_KEYS = re.compile(  # formats of API keys: OpenAI and others, AWS, Hugging Face, GitHub, GitLab, Slack, PEM
    r"(?<![A-Za-z0-9])(?:sk-(?:proj|ant|svcacct|admin|or)-[\w-]{20,}|sk-[A-Za-z0-9]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|hf_[A-Za-z0-9]{30,}|gh[oprsu]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|glpat-[\w-]{20,}|xox[a-z]-[A-Za-z0-9-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_WANDB_KEY = re.compile(r"[0-9a-f]{40}")  # commit hashes have this shape too, so the name is checked as well


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable of that name holds a secret: WANDB_API_KEY, hf_token."""
    return _VARIABLE.search(name) is not None


def is_secret_setting(name: str, value: str) -> bool:
    """Whether a setting is a secret by its name; a short value, a sentence or a path is not."""
    is_path = value.startswith(("/", "./", "../", "~"))
    return bool(_SETTING.search(name)) and len(value) >= _SHORTEST and " " not in value and not is_path


def find_secret(value: str, name: str = "") -> str | None:
    """Describes the secret that a value holds, found by its shape; None if there is none.

    Args:
        value: The value of a variable, a setting or an option.
        name: The name of the variable, or the path of the setting in the configuration.
    """
    if _PASSWORD_IN_URL.search(value):
        return "holds an address with a password"
    if _KEYS.search(value):
        return "holds what has the shape of a key"
    if _WANDB_KEY.fullmatch(value.strip()) and re.search(r"wandb|(?:^|[_.])key$", name.lower()):
        return "holds what has the shape of a Weights & Biases key"
    return None


def without_secrets(value: Any) -> Any:
    """Copies plain data with `(hidden)` in place of secret settings, API keys and credentials in URLs."""
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if _ANYWHERE.search(str(name)) and item is not None else without_secrets(item)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(item) for item in value]
    return _KEYS.sub(HIDDEN, _USER_IN_URL.sub(rf"\1{HIDDEN}@", value)) if isinstance(value, str) else value
