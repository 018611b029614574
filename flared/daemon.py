"""One node, from its configuration to its orderly end: builds the rooms of its role, serves, stops on a signal."""

from __future__ import annotations

import ctypes
import gc
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import trio

from flared import __version__
from flared.config import ApiConfig, Config
from flared.errors import Busy, FlareError
from flared.http.server import Server, listening_address, open_listeners
from flared.log import set_up_logging
from flared.systemd import notify

log = logging.getLogger(__name__)

STOP_SECONDS = 30.0
"""What runs may finish for so long after SIGTERM; a second signal cuts it."""
EXIT_FAILURE = 1

ARENAS_MAX = 2
"""glibc gives each thread an arena of its own, and each keeps its high-water mark: with 20 threads that is most of
a node's memory."""
_M_ARENA_MAX = -8


def run_node(config: Config) -> int:
    """Run the node until SIGTERM or SIGINT; the exit code. What keeps it from starting is told in one line."""
    set_up_logging(level=config.log.level, format=config.log.format)
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS_MAX)
    try:
        trio.run(_serve, config, strict_exception_groups=True)
    except (FlareError, OSError, ExceptionGroup) as error:
        causes = _causes(error)
        for cause in causes:
            log.error("event=node_failed name=%s error=%s message=%r", config.name, type(cause).__name__, str(cause))
        if not all(isinstance(cause, FlareError | OSError) for cause in causes):
            raise
        return EXIT_FAILURE
    log.info("event=node_stopped name=%s", config.name)
    return 0


async def _serve(config: Config) -> None:
    # The port first: whoever runs there already is found before a file is touched.
    try:
        listeners = open_listeners(str(config.listen))
    except OSError as error:
        raise Busy(f"cannot listen on {config.listen}: {error.strerror}") from None
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with _open_role(config) as server, trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, signals, server, nursery.cancel_scope)
            await nursery.start(server.serve, listeners)
            gc.collect()
            gc.freeze()  # what is here now stays: later collections need not look at it
            address = listening_address(listeners[0])
            log.info("event=node_started name=%s version=%s address=%s", config.name, __version__, address)
            notify("READY=1")


async def _stop_on_signal(signals: AsyncIterator[int], server: Server, scope: trio.CancelScope) -> None:
    """The first signal stops the server in order, the second at once."""
    async with trio.open_nursery() as nursery:
        asked = False
        async for number in signals:
            if asked:
                scope.cancel()
                return
            asked = True
            log.info("event=node_stopping signal=%s", signal.Signals(number).name)
            notify("STOPPING=1")
            nursery.start_soon(_stop, server, scope)


async def _stop(server: Server, scope: trio.CancelScope) -> None:
    await server.stop(STOP_SECONDS)
    scope.cancel()


def _open_role(config: Config) -> AbstractAsyncContextManager[Server]:
    """The rooms of the node's role, running, behind a server that does not serve yet."""
    # Imported here: neither role needs the rooms of the other.
    if isinstance(config, ApiConfig):
        from flared.api_role import open_api_role

        return open_api_role(config)
    from flared.data_role import open_data_role

    return open_data_role(config)


def _causes(error: BaseException) -> list[BaseException]:
    """What went wrong, out of the groups that nurseries put around it."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in _causes(inner)]
    return [error]
