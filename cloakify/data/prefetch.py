"""Read ahead: the next batches are decoded while the caller computes on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    make: Callable[[Item], Result], items: Iterable[Item], depth: int = 2, threads: int = 1
) -> Iterator[Result]:
    """Yield ``make(item)`` for every item, in order, made on threads that run ahead.

    At most ``depth`` results are finished or under way besides the caller's. The items are taken
    by the caller. An error in ``make`` is raised here, at its place in the order. The threads end
    with the generator, also when that is closed early.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="cloakify-data") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
