"""How numbers are written: ``.7221``, ``± .0013``, ``+.0042``; a dash where there is none."""

import math

NONE = "–"
MINUS = "−"


def figure(value: float | None) -> str:
    """A score with four decimals, without the zero before the point."""
    if value is None or math.isnan(value):
        return NONE
    return f"{value:.4f}".removeprefix("0") if value >= 0 else MINUS + figure(-value)


def signed(value: float | None) -> str:
    """A difference, with its sign."""
    if value is None or math.isnan(value):
        return NONE
    return ("+" if value >= 0 else "") + figure(value)


def spread(std: float | None) -> str:
    """A standard deviation; empty where there is none."""
    return "" if std is None or math.isnan(std) else f"± {figure(std)}"


def interval(low: float, high: float) -> str:
    """Both ends of an interval; empty where there is none."""
    return "" if math.isnan(low) else f"{signed(low)} to {signed(high)}"
