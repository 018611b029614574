"""One node, from its configuration to its orderly end: builds the rooms of its role, serves, stops on a signal."""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import trio

from flared import __version__
from flared.config.load import load_config
from flared.config.settings import ApiConfig, Config
from flared.config.values import is_loopback
from flared.errors import Busy, ConfigError, FlareError, leaves
from flared.http.address import Address, resolve
from flared.http.metrics import metrics_handler
from flared.http.server import (
    Listener,
    Server,
    ServerSettings,
    TcpListener,
    inherited_listeners,
    listening_address,
    open_listeners,
)
from flared.http.tls_context import Tls, TlsCaller, TlsListener
from flared.log import set_up_logging
from flared.role import RELOADED, Role
from flared.systemd import notify, take_descriptors, watchdog_seconds

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

log = logging.getLogger(__name__)

STOP_SECONDS = 30.0
"""How long requests may go on after SIGTERM; a second signal cuts them off."""
STATUS_SECONDS = 5.0
METRICS_CONNECTIONS_MAX = 16
PINGS = 3
"""So many in the time the watchdog allows: one may come late."""
START_SECONDS = 60.0
"""Volumes that must be read through take as long as they take: while the event loop turns, more time is asked for."""
EXIT_FAILURE = 1
_SECRETS = ("secrets", "secret_file")

ARENAS_MAX = 2
"""glibc gives each thread an arena of its own, and each keeps its high-water mark: with 20 threads that is most of
a node's memory."""
_M_ARENA_MAX = -8

SWITCH_INTERVAL_SECONDS = 0.0002
"""How long the event loop may have to wait for a thread that runs Python code; by default it is 5 ms, which is as long
as a whole put. Measured with 64 small puts at once: a tenth more of them, and less of a tail."""

YOUNG_OBJECTS = 20_000
"""Objects made before the collector looks for cycles. A request makes hundreds that all go by themselves: the default
of 700 has it look at every second one, for nothing."""


def run_node(config: Config, file: Path) -> int:
    """Run the node until SIGTERM or SIGINT. Return the exit code. What keeps it from starting is logged in one line.

    SIGHUP reads ``file``, the node's TOML, again.
    """
    set_up_logging(level=config.log.level, format=config.log.format)
    tune_process()
    try:
        trio.run(_serve, config, file, strict_exception_groups=True)
    except (FlareError, OSError, ExceptionGroup) as error:
        causes = leaves(error)
        for cause in causes:
            log.error("event=node_failed name=%s error=%s message=%r", config.name, type(cause).__name__, str(cause))
        notify(f"STATUS=failed: {causes[0]}")
        if not all(isinstance(cause, FlareError | OSError) for cause in causes):
            raise
        return EXIT_FAILURE
    log.info("event=node_stopped name=%s", config.name)
    return 0


def tune_process() -> None:
    """Have memory, threads and files of this process fit for serving."""
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS_MAX)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
    raise_file_limit()


def raise_file_limit() -> None:
    """As many files and sockets as the host allows at all: a shell starts programs with 1,024, too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # a host that does not even allow its own limit keeps the one there is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(config: Config, file: Path) -> None:
    # The port first: another process that listens there is found before a file is touched.
    listeners = take_listeners(config.listen)
    metrics_listeners = _listen(config.metrics_listen) if config.metrics_listen else []
    s3_listeners = _listen(config.s3_listen) if isinstance(config, ApiConfig) and config.s3_listen else []
    tls = Tls(config.tls)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with _open_role(config) as role, trio.open_nursery() as nursery:
            nursery.start_soon(_handle_signals, signals, role, config, file, tls, nursery.cancel_scope)
            await nursery.start(role.server.serve, _covered(listeners, tls, role.listen))
            if s3_listeners and role.s3 is not None:
                await nursery.start(role.s3.serve, _covered(s3_listeners, tls, role.listen_s3))
                log.info("event=s3_served at=%s", listening_address(s3_listeners[0]))
            if metrics_listeners:
                metrics_server = Server(
                    metrics_handler(role.metrics), ServerSettings(connections_max=METRICS_CONNECTIONS_MAX)
                )
                await nursery.start(metrics_server.serve, _covered(metrics_listeners, tls, for_all=True))
                log.info("event=metrics_told at=%s", listening_address(metrics_listeners[0]))
            gc.collect()
            gc.freeze()  # what is here now stays: later collections need not look at it
            address = listening_address(listeners[0])
            log.info("event=node_started name=%s version=%s address=%s", config.name, __version__, address)
            nursery.start_soon(_report, role)


def _covered(
    listeners: list[socket.socket],
    tls: Tls,
    listen: Callable[[socket.socket], Listener] = TcpListener,
    *,
    for_all: bool = False,
) -> list[Listener | socket.socket]:
    """The same, speaking TLS while the node has a certificate. ``for_all``: clients need none of their own."""
    return [TlsListener(listen(listener), tls, for_all=for_all) for listener in listeners]


def take_listeners(listen: Address) -> list[socket.socket]:
    """The sockets that systemd opened for us, or our own. Raises Busy if the port is taken.

    Raises ConfigError where systemd listens elsewhere than the TOML file says: to serve there would be a surprise.
    """
    inherited = inherited_listeners(take_descriptors())
    try:
        if not inherited:
            return open_listeners(str(listen))
        ours, theirs = resolve(listen), [listening_address(listener) for listener in inherited]
        if listen.port and not set(theirs) <= ours:
            for listener in inherited:
                listener.close()
            raise ConfigError([socket_mistake(listen, theirs)])
    except OSError as error:
        raise _taken(listen, error) from None
    return inherited


def _listen(address: Address) -> list[socket.socket]:
    """Raises Busy if the port is taken."""
    try:
        return open_listeners(str(address))
    except OSError as error:
        raise _taken(address, error) from None


def _taken(address: Address, error: OSError) -> Busy:
    hint = ": ss -ltnp tells who has the port" if error.errno == errno.EADDRINUSE else ""
    return Busy(f"cannot listen on {address}: {error.strerror}{hint}")


def socket_mistake(listen: Address, theirs: list[str]) -> str:
    """Return what to do about a socket unit that says something else than the TOML file."""
    return f"listen is {listen}, but systemd's socket unit says {', '.join(theirs)}: run `flared prepare` on the file"


async def _report(role: Role) -> None:
    """Tell systemd that we are ready, once we are, and from then on that the event loop turns, and how we are.

    What is asked for before is answered, if only with 503.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ask_for_time, role)
        await role.wait_ready()
        nursery.cancel_scope.cancel()
    notify(f"READY=1\nSTATUS={role.describe()}")
    watchdog = watchdog_seconds()
    period = min(STATUS_SECONDS, watchdog / PINGS) if watchdog else STATUS_SECONDS
    while True:
        await trio.sleep(period)
        notify(f"WATCHDOG=1\nSTATUS={role.describe()}")


async def _ask_for_time(role: Role) -> None:
    while True:
        notify(f"EXTEND_TIMEOUT_USEC={START_SECONDS * 1e6:.0f}\nSTATUS=starting: {role.describe()}")
        await trio.sleep(STATUS_SECONDS)


async def _handle_signals(
    signals: AsyncIterator[int], role: Role, config: Config, file: Path, tls: Tls, scope: trio.CancelScope
) -> None:
    """SIGHUP reads the TOML file again. The first other signal stops the server in order, the second at once."""
    async with trio.open_nursery() as nursery:
        asked = False
        async for number in signals:
            if number == signal.SIGHUP:
                config = _reload(role, config, file, tls)
                continue
            if asked:
                scope.cancel()
                return
            asked = True
            log.info("event=node_stopping signal=%s", signal.Signals(number).name)
            notify("STOPPING=1\nSTATUS=stopping: what runs may finish")
            nursery.start_soon(_stop, role, scope)


def _reload(role: Role, running: Config, file: Path, tls: Tls) -> Config:
    """Take over what may change; a file with mistakes changes nothing. What is in force now."""
    try:
        wanted = load_config(file)
    except ConfigError as error:
        for mistake in error.mistakes:
            log.error("event=reload_refused message=%r", mistake)
        return running
    if type(wanted) is not type(running):
        log.error("event=reload_refused message=%r", "the role of a node does not change")
        return running
    changed = [field.name for field in fields(wanted) if getattr(wanted, field.name) != getattr(running, field.name)]
    taken = [name for name in changed if name in RELOADED]
    if not wanted.secrets and not is_loopback(running.listen):
        # A file that moves the node to loopback needs no secret; until it is there, everybody would be let in.
        taken = [name for name in taken if name not in _SECRETS]
    try:  # also if no path has changed: certificates are renewed in place
        TlsCaller(wanted.tls)  # the role loads the same files below, and must not fail half-way
        tls.load(wanted.tls)
    except ConfigError as error:
        log.error("event=reload_refused message=%r", error.mistakes[0])
        return running
    in_force = replace(running, **{name: getattr(wanted, name) for name in taken})
    set_up_logging(level=in_force.log.level, format=in_force.log.format)
    try:
        role.reload(in_force)
    except ConfigError as error:  # a file changed since it was read above
        log.error("event=reload_refused message=%r", error.mistakes[0])
        return running
    log.info("event=node_reloaded changed=%s", ",".join(taken))
    waiting = [name for name in changed if name not in taken]
    if waiting:
        log.warning("event=restart_needed changed=%s", ",".join(waiting))
    return in_force


async def _stop(role: Role, scope: trio.CancelScope) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(role.server.stop, STOP_SECONDS)
        if role.s3 is not None:
            nursery.start_soon(role.s3.stop, STOP_SECONDS)
        if role.stop_others is not None:
            nursery.start_soon(role.stop_others, STOP_SECONDS)
    scope.cancel()


def _open_role(config: Config) -> AbstractAsyncContextManager[Role]:
    """The rooms of the node's role, running, behind a server that does not serve yet."""
    # Imported here: neither role needs the rooms of the other.
    if isinstance(config, ApiConfig):
        from flared.api_role import open_api_role

        return open_api_role(config)
    from flared.data_role import open_data_role

    return open_data_role(config)
