"""The one error that the tool reports without a stack trace."""


class WorldError(Exception):
    """What happened, to what, and what to do about it."""
