"""Several batches of one model at a time, their results in order.

A network that runs on two batches at once, with one core each, uses the cores better than on one
batch with both: nobody waits for the slowest part of every operator, and decoding that runs beside
it takes its turn without holding up the others.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_lanes(call: Callable[[Item], Result], items: Iterable[Item], n_lanes: int) -> list[Result]:
    """Call with every item, up to ``n_lanes`` at a time; the first error ends it.

    Parameters
    ----------
    call
        Releases Python's lock for most of its time, and may run in several threads.
    items
        Taken as fast as they come: what they hold stands in memory anyway.

    Returns
    -------
    :
        One result for each item, in their order.
    """
    if n_lanes == 1:
        return [call(item) for item in items]
    with ThreadPoolExecutor(n_lanes, "lane") as pool:
        return list(pool.map(call, items))
