"""The two ways in which a command can fail, each reported in one sentence: what, where, what would be right."""


class InputError(ValueError):
    """Bad usage or bad input; nothing was changed (exit code 2)."""


class WorkError(RuntimeError):
    """The work itself failed; the last good state is kept (exit code 1)."""


class StorageError(WorkError):
    """What was made can't be written; nothing else could be, so other work in the same place ends as well."""
