class UserError(ValueError):
    """A mistake in what the user asked for: names the argument, the value and what is allowed.

    The tools show its message without a traceback.
    """
