"""The five PNG row filters, undone along diagonals and chosen by the spec's heuristic.

Undoing a row needs the pixel to its left and the row above, so neither rows nor columns can be done at once;
the pixels of one diagonal can (x + y constant): each needs the two diagonals before only.

Source: W3C, Portable Network Graphics (PNG) Specification, Third Edition, sections 9.2–9.4 and 12.7.
"""

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError

__all__ = ["filter_rows", "unfilter_rows"]

_Bytes = NDArray[np.uint8]
_SUB, _UP, _AVERAGE, _PAETH = 1, 2, 3, 4


def unfilter_rows(types: _Bytes, rows: _Bytes, previous: _Bytes) -> _Bytes:
    """Undo the filters of consecutive rows.

    Args:
        types: Filter of each row, (n,), 0 to 4.
        rows: Filtered bytes, (n, m, b): n rows of m pixels of b bytes.
        previous: The unfiltered row above, (m, b); zeros above the first.

    Returns:
        Unfiltered bytes, (n, m, b).

    Raises:
        ImageError: A filter is none of the five.
    """
    if types.size and int(types.max()) > _PAETH:
        raise ImageError(f"a PNG row has a filter of 0 to 4, found {int(types.max())}; get an intact copy")
    n, m, b = rows.shape
    canvas = np.zeros((n + 1, m + 1, b), np.uint8)  # with the row above and a zero column to the left
    canvas[0, 1:] = previous
    canvas[1:, 1:] = rows
    if types.any():
        _undo_in_place(canvas, types)
    return canvas[1:, 1:]


def _undo_in_place(canvas: _Bytes, types: _Bytes) -> None:
    n, m, b = canvas.shape[0] - 1, canvas.shape[1] - 1, canvas.shape[2]
    flat = canvas.reshape(-1, b)
    is_type = [(types == kind).astype(np.int16)[:, None] for kind in range(5)]
    for t in range(n + m - 1):
        top, bottom = max(0, t - m + 1), min(n - 1, t)
        # Pixel (y, t − y) of the picture is canvas[y + 1, t − y + 1]: one step down a diagonal is m places on.
        start, stop = top * m + m + t + 2, bottom * m + m + t + 3
        diagonal = flat[start:stop:m]
        left = flat[start - 1 : stop - 1 : m].astype(np.int16)
        above = flat[start - m - 1 : stop - m - 1 : m].astype(np.int16)
        corner = flat[start - m - 2 : stop - m - 2 : m].astype(np.int16)
        sub, up, average, paeth = (mask[top : bottom + 1] for mask in is_type[1:])
        predicted = sub * left + up * above + average * ((left + above) >> 1)
        predicted += paeth * _paeth(left, above, corner)
        diagonal += predicted.astype(np.uint8)  # modulo 256, as the spec has it


def _paeth(left: NDArray[np.int16], above: NDArray[np.int16], corner: NDArray[np.int16]) -> NDArray[np.int16]:
    # Distances of left + above − corner to the three; ties go to left, then above.
    to_left, to_above = np.abs(above - corner), np.abs(left - corner)
    to_corner = np.abs(left + above - 2 * corner)
    best = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, best)


def filter_rows(rows: _Bytes, previous: _Bytes) -> _Bytes:
    """Filter consecutive rows, each by the filter whose bytes have the least sum of absolute values.

    Args:
        rows: Bytes, (n, m, b).
        previous: The row above, (m, b); zeros above the first.

    Returns:
        Rows as they are compressed, (n, 1 + m·b): filter type, then filtered bytes.
    """
    n, m, b = rows.shape
    canvas = np.zeros((n + 1, m + 1, b), np.int16)
    canvas[0, 1:] = previous
    canvas[1:, 1:] = rows
    here, left, above, corner = canvas[1:, 1:], canvas[1:, :-1], canvas[:-1, 1:], canvas[:-1, :-1]
    best = np.concatenate([np.zeros((n, 1), np.uint8), rows.reshape(n, m * b)], axis=1)
    least = _cost(best[:, 1:])
    predictions = ((_SUB, left), (_UP, above), (_AVERAGE, (left + above) >> 1), (_PAETH, _paeth(left, above, corner)))
    for kind, predicted in predictions:
        filtered = (here - predicted).astype(np.uint8).reshape(n, m * b)
        cost = _cost(filtered)
        better = cost < least
        best[better, 0], best[better, 1:] = kind, filtered[better]
        least = np.minimum(least, cost)
    return best


def _cost(filtered: _Bytes) -> NDArray[np.int64]:
    # |b| of a signed byte as min(b, 256 − b); uint8 wraps −b to 256 − b, and 0 to 0.
    cost: NDArray[np.int64] = np.minimum(filtered, -filtered).sum(axis=1, dtype=np.int64)
    return cost
