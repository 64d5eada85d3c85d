from numbers import Integral


class UserError(ValueError):
    """A mistake in what the user asked for: names the argument, the value and what is allowed.

    The tools show its message without a traceback.
    """


def check_count(
    name: str, value: object, minimum: int = 1, maximum: int | None = None, odd: bool = False
) -> None:
    """Refuse what is not a whole number from ``minimum`` on, to ``maximum`` if given, odd if ``odd``.

    Raises:
        UserError: With the name, the value and what is allowed.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    inside = whole and minimum <= value and (maximum is None or value <= maximum)
    if not inside or (odd and value % 2 == 0):
        limits = f'of {minimum} or more' if maximum is None else f'from {minimum} to {maximum}'
        wanted = f'odd and {limits.removeprefix("of ")}' if odd else f'a whole number {limits}'
        raise UserError(f'{name} must be {wanted}, got {value!r}')


def check_heads(channels: int, num_heads: int) -> None:
    """Refuse a number of attention heads that does not divide the channels.

    Raises:
        UserError: With both numbers.
    """
    check_count('num_heads', num_heads)
    if channels % num_heads:
        raise UserError(
            f'num_heads must divide the channels, got num_heads={num_heads}, channels={channels}'
        )
