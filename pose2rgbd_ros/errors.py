"""What a user is meant to read: the one exception, and counts in words."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Bad input, reported in one line: what is wrong, where, and what to do.

    The command line prints it as ``error: ...`` and exits with 2; nodes log it and fail their transition.
    """

    def __str__(self) -> str:
        """One line even where it quotes a file that has line breaks."""
        return " ".join(super().__str__().splitlines())


def counted(count: int, thing: str, things: str = "") -> str:
    """A count and what is counted: "1 frame", "2 frames"; `things` where an s does not make the plural."""
    return f"{count} {thing if count == 1 else things or thing + 's'}"


@contextmanager
def os_errors(what: str, advice: str = "") -> Iterator[None]:
    """Context in which an OSError becomes a UserError: what could not be done, the system's reason, what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what} ({error.strerror or error}){advice and f'; {advice}'}") from error
