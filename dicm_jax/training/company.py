"""The processes of a run look after each other: where one is lost or fails, all end.

Two threads tell and listen (`dicm_jax.training.signs_of_life`). Without them, the others would wait
for a lost process in a collective operation, or at JAX's shutdown, for minutes or for ever.
"""

import contextlib
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

import jax

from dicm_jax.cli import DONE, FAILED, PREEMPTED, run_command
from dicm_jax.errors import LostProcessError
from dicm_jax.training import last_words, progress
from dicm_jax.training.preemption import PreemptedError
from dicm_jax.training.signs_of_life import GRACE, Company, Store

_joined: Company | None = None


def join(store: Store, process: int, count: int, silence_s: float, address: str) -> None:
    """Begin to look after the other processes; for the rest of this process's life.

    Args:
      store: JAX's coordination client.
      process, count: number of this process, and of all.
      silence_s: seconds without a sign of life after which a process is lost.
      address: host:port that process 0 listens at.
    """
    global _joined
    _joined = company = Company(store, process, count, silence_s, address)
    last_words.before_abort(lambda: _explain_abort(company), patience_s=silence_s)
    for name, task in (("tell", company.try_to_beat), ("listen", lambda: _listen(company))):
        threading.Thread(target=_repeat, args=(task, company.pause), name=name, daemon=True).start()


def in_company(command: Callable[[], int], *, debug: bool) -> int:
    """Run a command that may join other processes, and see to it that they end together.

    Like `dicm_jax.cli.run_command`. If there are other processes, they are told where this one
    fails; where all goes well it waits for them; and it does not return.

    Args:
      command: returns an exit code.
      debug: let errors through, with their traceback.
    """

    def told() -> int:
        try:
            return command()
        except BaseException as error:
            on_failure(type(error), error, None)
            raise

    try:
        code = run_command(told, debug=debug)
    except BaseException:
        if _joined is None:
            raise
        traceback.print_exc()
        code = FAILED
    if _joined is not None:
        _leave(_joined, code)
    return code


def on_failure(_: object, error: BaseException | None, __: object) -> None:
    """Tells the others of an error at once, for the exit of a ``with``; nothing if there are none.

    To be left before what waits for the others, such as a save under way.

    Raises:
      LostProcessError: the error came of another process that is lost or failed.
    """
    company = _joined
    if company is None or error is None or company.failure is not None:
        return
    if isinstance(error, PreemptedError):
        return  # all of them end so
    cause = company.why(error)
    if not last_words.claim():
        time.sleep(company.silence_s)  # a watching thread is speaking, and ends this process
    if isinstance(cause, LostProcessError):
        company.fail(str(cause), patience_s=GRACE * company.pause, in_peace=False)
        if cause is not error:
            raise cause from error
    else:
        words = str(cause) or type(cause).__name__
        words = f"process {company.process} failed: {words}"
        company.fail(words, patience_s=company.silence_s, in_peace=True)


def depart(message: str) -> None:
    """Tell the other processes, if there are any, that this one ends, and why."""
    if _joined is not None:
        _joined.depart(f"process {_joined.process} {message}", in_peace=True)
        _joined.go_last()


def places() -> str:
    """Where the other processes are, as a sentence; "" if there are none."""
    return "" if _joined is None else _joined.places()


def _repeat(task: Callable[[], None], pause: float) -> None:
    while True:
        task()
        time.sleep(pause)


def _listen(company: Company) -> None:
    if company.code is not None:
        return  # it is leaving
    message = company.look()
    if message is None:
        return
    if company.failure is not None or last_words.claim():
        company.depart(message)
        company.go_last()
        last_words.exit_now(message)


def _leave(company: Company, code: int) -> NoReturn:
    """The end of a command."""
    if code not in (DONE, PREEMPTED):
        company.go_last()
        last_words.exit_now(None, code=code)
    company.code = code
    company.depart("")
    progress.at("its end, waiting for the other processes", seldom=True)
    with contextlib.suppress(Exception):  # all is written; who fails now shows it himself
        jax.distributed.shutdown()
    # Not by the usual way out: it takes down one by one what other processes still talk to.
    last_words.exit_now(None, code=code)


def _explain_abort(company: Company) -> str | None:
    if company.code is not None:
        last_words.exit_now(None, code=company.code)  # all is written
    message = company.who()
    if message is not None:
        company.depart(message)
        company.go_last()
    return message
