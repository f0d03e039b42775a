"""What tf2 raises; `str(exception)` is the message."""


class TransformException(Exception):
    """The base of all tf2 exceptions."""


class ConnectivityException(TransformException):
    """The two frames are in trees that are not connected."""


class LookupException(TransformException):
    """A frame does not exist, or the tree contains a loop."""


class ExtrapolationException(TransformException):
    """The requested time is outside the recorded history of an edge."""


class InvalidArgumentException(TransformException):
    """An argument is not allowed, for example a frame id that is empty or begins with a slash."""


class TimeoutException(TransformException):
    """Waiting took too long."""
