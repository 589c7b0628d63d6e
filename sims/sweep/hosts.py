"""Several processes, on one machine or many, that run one command together.

Each runs the same command with its own `--host i/n`; JAX connects them. What one knows the others
get by `exchange`. A host that refuses says why to all; one that dies or falls silent ends the run
of all within a bounded time, and nothing but the chunk in hand is lost.
"""

import ctypes
import json
import os
import re
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sims.sweep.plan import Shard
from theory.command_line.lasting import ENDED, Ended, LastingStream
from theory.domain import InvalidInput

LOST = 3
AGAIN = "the same command, with any number of hosts, goes on from the last chunk"


class _Told(InvalidInput):
    """What another host refused."""


def together(host: Shard, coordinator: str, patience: int, action: Callable[[], int]) -> int:
    """Returns the status of `action` on host 1, after running it on all hosts side by side.

    To be called before any JAX computation. A lost host, or an interrupt, ends the process.

    Args:
        host: number and total of this process, counted from 1.
        coordinator: name:port at which host 1 listens and the others find it.
        patience: seconds after which a host that did not come, or is silent, is given up.
        action: what to run; hosts must call `exchange` equally often in it.

    Raises:
        InvalidInput: for a bad address or patience, or what any host refuses.
    """
    _require_address(host, coordinator)
    if patience < 1:
        raise InvalidInput(f"patience = {patience}: seconds, must be at least 1")
    leave = _Exit(host)
    leave.reason = f"not all {host.total} hosts came to {coordinator} within {patience} s"
    # JAX would take SIGTERM for itself, and a run that is asked to stop go on to its end.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            host.total,
            host.number - 1,
            cluster_detection_method="deactivate",
            initialization_timeout=patience,
            heartbeat_timeout_seconds=patience,
            shutdown_timeout_seconds=patience,
            coordinator_bind_address=coordinator,
        )
        exchange(b"")
        leave.reason = f"another host was lost or stopped; {AGAIN}"
        status = exchange(bytes([_refusing(action)]))[0][0]
    except InvalidInput:
        leave.quietly()
        raise
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, Ended) else signal.SIGINT
        leave.reason = f"{ENDED[number]}; {AGAIN}"
        leave.now(128 + number)
    except _LostHost:
        leave.now(LOST)
    except BaseException:
        # Any other way out would wait for hosts that wait for this one.
        leave.reason = traceback.format_exc()
        leave.now(1)
    leave.quietly()
    return status


def first() -> bool:
    """Returns whether this is the host that reads, writes and reports."""
    return jax.process_index() == 0


def exchange(message: bytes) -> list[bytes]:
    """Returns the messages of all hosts, each of which must call this; alone, one's own.

    Raises:
        InvalidInput: if a host refuses instead.
    """
    return _exchange(message, refused=False)


def require_equal(settings: dict[str, Any]) -> None:
    """Raises InvalidInput, on every host, unless all have the same settings (JSON values)."""
    first, *others = (json.loads(message) for message in exchange(json.dumps(settings).encode()))
    for number, other in enumerate(others, 2):
        for name in first:
            if other.get(name) != first[name]:
                raise _Told(f"host {number}: {name} = {other.get(name)}, host 1 has {first[name]}")


class _LostHost(Exception):
    """The connection to another host broke."""


def _refusing(action: Callable[[], int]) -> int:
    """Returns the status of the action; what it refuses is said to all hosts first."""
    try:
        return action()
    except _Told:
        raise
    except InvalidInput as error:
        _exchange(str(error).encode(), refused=True)
        raise


def _exchange(message: bytes, refused: bool) -> list[bytes]:
    if jax.process_count() == 1:
        return [message]
    # How long each message is, and whether it is a refusal, before the messages themselves.
    headers = _gather(np.array([refused, len(message)], np.uint32))
    # A power of two, so that few lengths are compiled.
    words = np.zeros(1 << int(headers[:, 1].max() // 4).bit_length(), np.uint32)
    words.view(np.uint8)[: len(message)] = np.frombuffer(message, np.uint8)
    contents = _gather(words).view(np.uint8)
    messages = [c[:size].tobytes() for c, size in zip(contents, headers[:, 1], strict=True)]
    for number, (other_refused, text) in enumerate(zip(headers[:, 0], messages, strict=True), 1):
        if other_refused and not refused:
            raise _Told(f"host {number} stopped: {text.decode()}")
    return messages


def _gather(row: np.ndarray) -> np.ndarray:
    """Returns the rows of all hosts, (hosts, n)."""
    # One device of each host, the first: the last one written to a key stays.
    leaders = {device.process_index: device for device in reversed(jax.devices())}
    mesh = Mesh(np.array([leaders[i] for i in sorted(leaders)]), ("host",))
    try:
        rows = jax.make_array_from_process_local_data(
            NamedSharding(mesh, PartitionSpec("host")), row[None]
        )
        # The identity, with every row wanted everywhere: JAX moves them between the hosts.
        whole = jax.jit(_same, out_shardings=NamedSharding(mesh, PartitionSpec()))(rows)
        return np.asarray(whole.addressable_data(0))
    except (ValueError, RuntimeError) as error:
        raise _LostHost from error


def _same(rows: jax.Array) -> jax.Array:
    return rows


def _require_address(host: Shard, coordinator: str) -> None:
    # ASCII digits alone: C++ reads no others, and crashes.
    match = re.fullmatch(r"(.+):([0-9]{1,5})", coordinator)
    if not match or int(match[2]) > 65535:
        raise InvalidInput(f"coordinator = {coordinator!r}: must be name:port of host 1")
    try:
        name, port = match[1].strip("[]"), int(match[2])
        family, *_, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        if host.number == 1:
            # JAX crashes where it cannot listen.
            socket.create_server(address[:2], family=family).close()
    # UnicodeError: of a part of the name that is empty or too long for any name server.
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a host"
        raise InvalidInput(
            f"coordinator = {coordinator!r}: host 1 cannot listen there ({reason})"
            if host.number == 1
            else f"coordinator = {coordinator!r}: cannot be found ({reason})"
        ) from error


class _Exit:
    """The way out when other hosts cannot be waited for: one line on standard error.

    JAX aborts the process when it misses a host, with pages of text from C++. Until `quietly`,
    that text goes to a file, and an abort prints the reason instead.
    """

    def __init__(self, host: Shard) -> None:
        self.host, self.reason = host, ""
        handle, self.log = tempfile.mkstemp(prefix=f"host-{host.number}-of-{host.total}-")
        for number, name in ((1, "stdout"), (2, "stderr")):
            stream = getattr(sys, name)
            stream.flush()
            apart = os.fdopen(os.dup(number), "w", buffering=1)
            if isinstance(stream, LastingStream):
                # It still outlives its reader.
                stream.stream = apart
            else:
                setattr(sys, name, apart)
            os.dup2(handle, number)
        os.close(handle)
        self.handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: self.now(LOST))
        ctypes.CDLL(None).signal(signal.SIGABRT, self.handler)

    def quietly(self) -> None:
        """Parts from hosts that are known to part as well."""
        jax.distributed.shutdown()
        ctypes.CDLL(None).signal(signal.SIGABRT, None)
        os.unlink(self.log)

    def now(self, status: int) -> NoReturn:
        """Says the reason and ends the process."""
        line = f"host {self.host}: {self.reason}"
        if status == LOST:
            line = f"error: {line} (what JAX says of it is in {self.log})"
        # Not through Python's buffers: this may be a thread of JAX that interrupted a write.
        os.write(sys.stderr.fileno(), f"{line}\n".encode())
        os._exit(status)
