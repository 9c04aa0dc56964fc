"""Errors by what the caller does next.

::

    TenfoldError
    ├── ConfigError      change the settings; a restart alone does not help      exit 2
    ├── RetryableError   call again later: nothing was lost, nothing half done   exit 75
    └── FatalError       stop this process; a restart continues from the         exit 70
        │                last checkpoint
        └── FencedError  stop at once and write nothing more: another worker     exit 70
                         owns the partition now

A bad record is none of these: it becomes a row of the rejected topic with a reason code and the stream goes
on. Every message says what to do about it, and none holds a secret. Exit codes follow sysexits.h.
"""

from collections.abc import Sequence


class TenfoldError(Exception):
    """Base of every error that Tenfold raises on purpose."""

    exit_code = 1


class ConfigError(TenfoldError):
    """The settings are wrong, all problems at once.

    >>> print(ConfigError(["web.port = 99999 is not accepted: give a port from 0 to 65535"], where="tenfold.toml"))
    1 problem with the settings in tenfold.toml:
      web.port = 99999 is not accepted: give a port from 0 to 65535
    >>> print(ConfigError("web.port = 80: not allowed; choose a port above 1023"))
    web.port = 80: not allowed; choose a port above 1023
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str], where: str = "") -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        self.where = where
        super().__init__(self.problems, where)

    def __str__(self) -> str:
        if not self.where:
            return "\n".join(self.problems)
        count = f"{len(self.problems)} problem{'' if len(self.problems) == 1 else 's'}"
        return "\n  ".join((f"{count} with the settings in {self.where}:", *self.problems))


class RetryableError(TenfoldError):
    """It may succeed later: wait (at least ``retry_after_seconds``, if given) and call again."""

    exit_code = 75

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class FatalError(TenfoldError):
    """This process cannot go on: let it end, so that its supervisor starts it from the last checkpoint."""

    exit_code = 70


class FencedError(FatalError):
    """A newer owner has the partition: drop its state and write nothing more for it."""
