"""Threads in lockstep: each asks for something and waits, and all that wait are answered at once.

So that many searches, each written as if it were alone, share the large operations of a device. A
round is answered when every live thread waits, hence its requests do not depend on who was faster.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Request = TypeVar("Request")
Result = TypeVar("Result")
INTERRUPTED = "the work of all genes was interrupted"


class Stopped(RuntimeError):
    """The work of all threads was called off."""


@dataclass(eq=False)
class _Ticket(Generic[Request]):
    request: Request
    reply: Any = None
    ready: threading.Event = field(default_factory=threading.Event)

    def settle(self, reply: Any) -> None:
        self.reply = reply
        self.ready.set()


class Lockstep(Generic[Request]):
    """Runs jobs in threads and answers their requests in rounds.

    Parameters
    ----------
    answer : callable
        Takes the requests of a round, returns a reply to each. A reply that is an exception is
        raised where the request was made; an exception that ``answer`` raises, at all of them.

    Examples
    --------
    >>> rounds = Lockstep(lambda requests: [10 * request for request in requests])
    >>> rounds.run(lambda job, slot: rounds.ask(job) + 1, [1, 2, 3], width=2)
    [11, 21, 31]
    """

    def __init__(self, answer: Callable[[list[Request]], Sequence[Any]]) -> None:
        self._answer = answer
        self._changed = threading.Condition()
        self._waiting: list[_Ticket[Request]] = []
        self._live = 0
        self._stopped = False
        # no more threads compute than there are cores: the others wait for their turn
        self._turns = threading.Semaphore(os.cpu_count() or 1)

    def ask(self, request: Request) -> Any:
        """Wait for the round in which all others ask too, and return the reply."""
        ticket = _Ticket(request)
        with self._changed:
            if self._stopped:
                raise Stopped(INTERRUPTED)
            self._waiting.append(ticket)
            self._changed.notify_all()
        self._turns.release()
        ticket.ready.wait()
        self._turns.acquire()
        if isinstance(ticket.reply, BaseException):
            raise ticket.reply
        return ticket.reply

    def run(
        self, work: Callable[[int, int], Result], jobs: Sequence[int], width: int
    ) -> list[Result]:
        """Return ``work(job, slot)`` of every job, ``width`` at a time, a slot for each of these.

        What ``work`` raises is raised here when all have ended; an interrupt ends all of them.
        """
        width = min(width, len(jobs))
        self._live, self._stopped = width, False
        queue = iter(list(enumerate(jobs)))
        done: dict[int, Result] = {}
        with ThreadPoolExecutor(max(1, width), thread_name_prefix="gene") as pool:
            ends = [pool.submit(self._worker, work, queue, slot, done) for slot in range(width)]
            try:
                while tickets := self._round():
                    self._settle(tickets)
            except BaseException:
                self._stop()
                raise
        for end in ends:
            end.result()
        return [done[place] for place in range(len(jobs))]

    def _worker(
        self,
        work: Callable[[int, int], Result],
        queue: Iterator[tuple[int, int]],
        slot: int,
        done: dict[int, Result],
    ) -> None:
        """Take jobs until none is left."""
        self._turns.acquire()
        try:
            while (job := self._next(queue)) is not None:
                done[job[0]] = work(job[1], slot)
        finally:
            self._turns.release()
            with self._changed:
                self._live -= 1
                self._changed.notify_all()

    def _next(self, queue: Iterator[tuple[int, int]]) -> tuple[int, int] | None:
        with self._changed:
            return None if self._stopped else next(queue, None)

    def _round(self) -> list[_Ticket[Request]]:
        """Wait until all live threads do, and take their requests; none where all have ended."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) == self._live)
            tickets, self._waiting = self._waiting, []
            return tickets

    def _settle(self, tickets: list[_Ticket[Request]]) -> None:
        """Answer a round."""
        try:
            replies = self._answer([ticket.request for ticket in tickets])
        except Exception as error:
            replies = [error] * len(tickets)
        except BaseException:  # an interrupt
            for ticket in tickets:
                ticket.settle(Stopped(INTERRUPTED))
            raise
        for ticket, reply in zip(tickets, replies, strict=True):
            ticket.settle(reply)

    def _stop(self) -> None:
        """Refuse all further requests."""
        with self._changed:
            self._stopped = True
            for ticket in self._waiting:
                ticket.settle(Stopped(INTERRUPTED))
            self._waiting = []
