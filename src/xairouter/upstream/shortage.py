"""Whether a connection failed for want of something on this machine: no provider is to blame then."""

import errno
import socket

_SHORT = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.EADDRNOTAVAIL,  # No port is left for a connection to this address.
    }
)


def is_local_shortage(error: Exception) -> bool:
    """Whether the error says so; or, where it says nothing (a name that was not looked up, a certificate
    that was not read, several errors in one), whether no socket can be made now."""
    if isinstance(error, RuntimeError):
        return True  # No thread could be started.
    if isinstance(error, OSError) and error.errno in _SHORT:
        return True
    try:
        socket.socket().close()
    except OSError:
        return True
    return False
