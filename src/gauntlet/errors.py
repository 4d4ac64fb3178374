"""Errors a user can fix: one line with what was given, what is expected, and what to do instead."""


class UserError(Exception):
    """A request cannot be fulfilled. The commands print only the message and exit with 2.

    Args:
        message: becomes one line of UTF-8, whatever bytes the names of files and the values in it hold.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class InUse(UserError):  # noqa: N818
    """Another process is using the run folder."""


class NotFiniteError(UserError, RuntimeError):
    """A classifier returned NaN. It must not count as robust, so the run stops."""


class ThreatModelViolation(RuntimeError):  # noqa: N818  (the name in the design)
    """An attack that must stay inside its threat model returned images outside it: a bug in the attack."""


class AttackFailed(RuntimeError):  # noqa: N818
    """An attack raised an error, or did not return a batch of images. The other attacks can continue."""


def one_line(text: str) -> str:
    """The text with escapes for line breaks, for control characters, and for bytes of file names that are no UTF-8."""
    decoded = text.encode("utf-8", "backslashreplace").decode()
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in decoded)


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
