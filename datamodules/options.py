"""What dataclasses of options have in common: every group of a composition checks its own fields."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of the frozen dataclasses of options, which are composed by inheritance.

    A class checks its fields in a method `check`, without a call of super: the `check` of every class is called.
    """

    def __post_init__(self) -> None:
        for owner in reversed(type(self).__mro__):
            if issubclass(owner, Options) and "check" in vars(owner):
                owner.check(self)

    def check(self) -> None:
        """Raises ValueError for a value out of range, or for values that do not go together."""

    @classmethod
    def help_appendix(cls, arguments: Sequence[str]) -> str:
        """Text at the end of the help of a command with these arguments; "" for none."""
        return ""

    def require_at_least(self, minimum: int, *names: str) -> None:
        """Raises ValueError where one of the named fields is below `minimum`; None is not."""
        for name in names:
            value = getattr(self, name)
            if value is not None and value < minimum:
                otherwise = ", or null" if getattr(type(self), name, "") is None else ""
                raise ValueError(f"{name}={value}: must be at least {minimum}{otherwise}")
