"""The two ways a command can fail, told in one sentence each: what, where, what would be right."""


class InputError(ValueError):
    """Bad usage or bad input; nothing was changed (exit code 2)."""


class WorkError(RuntimeError):
    """The work itself failed; the last good state is kept (exit code 1)."""
