"""Run an EngineApp until it is told to stop, or until there is no point in going on.

Faust does not notice that it will never get partitions (a fatal answer of the coordinator only ends a task inside
aiokafka), so a watchdog does: the process ends with the reason and its supervisor starts it anew.
"""

import asyncio
import contextlib
import signal
import time

from aiokafka.errors import KafkaConnectionError

from streams.errors import FatalError, RetryableError, TenfoldError
from streams.transport.app import EngineApp
from streams.transport.consumer import BatchConsumer

_WATCH_INTERVAL_SECONDS = 0.25
_CRASH_STOP_SECONDS = 5.0


async def run_app(app: EngineApp, *, stop: asyncio.Event | None = None, handle_signals: bool = True) -> None:
    """Start ``app``; return after an orderly stop, asked for by ``stop`` or by SIGTERM or SIGINT.

    An orderly stop finishes the deliveries in hand, calls ``on_revoked``, commits and leaves the group. After a
    crash nothing is checkpointed. Raises FatalError with the reason when an agent or a hook raised, when the group
    cannot be joined, or when stopping took longer than ``stop_timeout_ms``; RetryableError when no broker can be
    reached at start; a TenfoldError of an agent or hook as it is.
    """
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT) if handle_signals else ()
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    app.finalize()
    app.in_worker = True
    starting = asyncio.create_task(app.start())
    watching = asyncio.create_task(_watch(app, starting))
    stopping = asyncio.create_task(stop.wait())
    failure: BaseException | None = None
    try:
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            failure = watching.exception()
    finally:
        for task in (watching, stopping):
            task.cancel()
        for number in signals:
            # From here on a second signal ends the process at once.
            loop.remove_signal_handler(number)
        failure = await _stop(app, starting, failure)
    if failure is not None:
        raise _explained(app, failure) from failure


async def _watch(app: EngineApp, starting: asyncio.Task) -> None:
    """Return never; raise what is wrong."""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(app.crash_seen.wait(), _WATCH_INTERVAL_SECONDS)
        if app.crashed:
            raise app.crash_reason or FatalError("the stream engine crashed without giving a reason; see the log")
        if starting.done() and (error := starting.exception()):
            raise error
        consumer = app._consumer
        if isinstance(consumer, BatchConsumer) and (error := consumer._thread.coordinator_error()):
            raise FatalError(f"the consumer group {app.transport_settings.group!r} refused this member: {error}")
        if app.partitions:
            app.lease.check()
        waited_ms = (time.monotonic() - app.waiting_since) * 1000
        if app.ready_at is None and waited_ms > app.transport_settings.assignment_timeout_ms:
            raise FatalError(
                f"no partitions within {app.transport_settings.assignment_timeout_ms / 1000:.0f} s: the brokers "
                f"{', '.join(app.transport_settings.connection.servers)} are not reachable, or the group "
                f"{app.transport_settings.group!r} does not come to an end of its rebalance"
            )


async def _stop(app: EngineApp, starting: asyncio.Task, failure: BaseException | None) -> BaseException | None:
    """Stop the app; the failure to report, the first one if there are several."""
    if failure is not None and not app.crashed:
        # Marks every part as crashed: waits for acknowledgements end, and the state is not checkpointed.
        app._crash(failure)
    seconds = _CRASH_STOP_SECONDS if failure is not None else app.transport_settings.stop_timeout_ms / 1000
    try:
        await asyncio.wait_for(app.stop(), seconds)
    except TimeoutError:
        failure = failure or FatalError(
            f"stopping took longer than {seconds:.0f} s: an agent holds a delivery, or a broker does not answer"
        )
    except asyncio.CancelledError:
        if asyncio.current_task().cancelling():
            raise
        # Something inside was cancelled, such as a commit that waits for a broker; it must not hide the reason.
        failure = failure or FatalError("the stream engine was cancelled while it stopped")
    except Exception as error:
        failure = failure or error
    if app.crashed and failure is None:
        failure = app.crash_reason
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await starting
    return failure


def _explained(app: EngineApp, failure: BaseException) -> BaseException:
    if isinstance(failure, TenfoldError) or not isinstance(failure, Exception):
        return failure
    if isinstance(failure, KafkaConnectionError):
        servers = ", ".join(app.transport_settings.connection.servers)
        return RetryableError(f"no broker of {servers} can be reached ({failure}): start it, or correct broker.servers")
    return FatalError(f"the stream engine stopped: {type(failure).__name__}: {failure}")
