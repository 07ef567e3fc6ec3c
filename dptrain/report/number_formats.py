"""Losses, rates, times and epochs as text: few digits, whatever their size."""


def loss_text(loss: float, sign: str = "") -> str:
    """Return a loss: four digits behind the point, or four in all where it is small or huge.

    With ``sign="+"`` one above zero has its sign.
    """
    plain = not loss or 1e-3 <= abs(loss) < 1e7
    return format(loss, f"{sign}.4f" if plain else f"{sign}.4g")


def rate_text(rate: float) -> str:
    """Return a number of things a second: whole, or three digits where they are few."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def seconds_text(seconds: float) -> str:
    """Return a time in microseconds, milliseconds or seconds, whichever is short."""
    if seconds < 0.01:
        return f"{1e6 * seconds:,.0f} µs"
    return f"{1e3 * seconds:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"


def epoch_text(epoch: float) -> str:
    """Return how many epochs are done, as ``12`` or ``0.00333``."""
    return f"{round(epoch, 3):g}" if epoch >= 1 else f"{epoch:.3g}"
