"""Amounts with a letter at their end, as people write them: 4GB of memory, 500M pixels."""

import math

__all__ = ["MEMORY", "PIXELS", "amount"]

#: What K stands for, of bytes and of pixels; M and G are its powers.
MEMORY, PIXELS = 1024, 1000


def amount(text: str, kilo: int) -> int | None:
    """Read "4GB", "4 GiB", "1.5g" or "500M"; None if it is no amount of one or more.

    Args:
        text: A number, and K, M or G; of memory also with B or iB.
        kilo: `MEMORY` or `PIXELS`.
    """
    plain = text.strip().upper()
    if kilo == MEMORY:
        plain = plain.removesuffix("B").removesuffix("I")
    power = "KMG".find(plain[-1:]) + 1 if plain else 0
    try:
        count = float(plain[:-1] if power else plain) * kilo**power
    except ValueError:
        return None
    return round(count) if math.isfinite(count) and count >= 1 else None
