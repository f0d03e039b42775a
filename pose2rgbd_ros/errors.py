"""The one exception a user is meant to read."""


class UserError(Exception):
    """Bad input, told in one line: what is wrong, where, and what to do.

    The command line prints it as ``error: ...`` and exits with 2; nodes log it and fail their transition.
    """
