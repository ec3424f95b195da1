"""The rooms of the console: one table, from which the rail and the command palette derive."""

from collections.abc import Callable
from dataclasses import dataclass

from xairouter.domain.permissions import Permission


@dataclass(frozen=True, slots=True)
class Room:
    """A room: its name in the words (``rooms.<name>``), its path, the verb that opens it."""

    name: str
    path: str
    verb: Permission
    in_rail: bool = True


ROOMS: tuple[Room, ...] = (
    Room("overview", "/console/", Permission.USAGE_READ),
    Room("provider_keys", "/console/provider-keys", Permission.PROVIDER_KEYS_READ),
    Room("accounts", "/console/accounts", Permission.ACCOUNTS_READ),
    Room("me", "/console/me", Permission.ME_READ),
    Room("routing", "/console/routing", Permission.ROUTING_READ),
    Room("usage", "/console/usage", Permission.USAGE_READ),
    Room("calls", "/console/calls", Permission.USAGE_READ),
    Room("explain", "/console/explain", Permission.EXPLAIN),
    Room("operations", "/console/operations", Permission.OPERATIONS_READ),
    Room("playground", "/console/playground", Permission.PLAYGROUND_OPEN),
    Room("notices", "/console/notices", Permission.NOTICES_READ, in_rail=False),
    Room("settings", "/console/settings", Permission.SETTINGS_READ),
    Room("help", "/console/help", Permission.ME_READ),
)


def rooms_of(may: Callable[[Permission], bool]) -> tuple[Room, ...]:
    """The rooms that somebody may enter."""
    return tuple(room for room in ROOMS if may(room.verb))
