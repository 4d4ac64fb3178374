"""The errors a user can mend: one line that says what came, what was expected, and the way out."""


class UserError(Exception):
    """Something in the request cannot be done as asked. The front doors print the message alone and exit with 2.

    Args:
        message: becomes one line of UTF-8, whatever the names of files and the values in it are made of.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class InUse(UserError):  # noqa: N818
    """Another process is at work in the run folder."""


class NotFiniteError(UserError, RuntimeError):
    """A classifier answered NaN. It must not pass for a robust one, so nothing goes on."""


class ThreatModelViolation(RuntimeError):  # noqa: N818  (the word of the design)
    """An attack that promises to stay inside its threat model came back from outside it: a bug in the attack."""


class AttackFailed(RuntimeError):  # noqa: N818
    """An attack raised an error of its own, or gave back no batch of images. The other attacks can go on."""


def one_line(text: str) -> str:
    """The text with escapes for line breaks, for control characters, and for bytes of file names that are no UTF-8."""
    decoded = text.encode("utf-8", "backslashreplace").decode()
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in decoded)


def first_line(error: BaseException) -> str:
    """What an error says first; its type where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
