"""Errors a user can fix: one line with what was given, what is expected, and what to do instead."""


class UserError(Exception):
    """A request cannot be fulfilled. The commands print only the message and exit with 2."""


class InUse(UserError):  # noqa: N818
    """Another process is using the run folder."""


class NotFiniteError(UserError, RuntimeError):
    """A classifier returned NaN. It must not count as robust, so the run stops."""


class ThreatModelViolation(RuntimeError):  # noqa: N818  (the name in the design)
    """An attack that must stay inside its threat model returned images outside it: a bug in the attack."""


class AttackFailed(RuntimeError):  # noqa: N818
    """An attack raised an error, or did not return a batch of images. The other attacks can continue."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
