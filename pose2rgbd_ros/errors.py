"""The one exception a user is meant to read."""


class UserError(Exception):
    """Bad input, told in one line: what is wrong, where, and what to do.

    The command line prints it as ``error: ...`` and exits with 2; nodes log it and fail their transition.
    """

    def __str__(self) -> str:
        """One line even where it quotes a file that has line breaks."""
        return " ".join(super().__str__().splitlines())
