"""The rooms of the console: one table, from which the rail and the command palette derive."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Room:
    """A room: its name in the words (``rooms.<name>``), its path, the verb that opens it."""

    name: str
    path: str
    verb: str
    in_rail: bool = True


ROOMS: tuple[Room, ...] = (
    Room("overview", "/console/", "usage.read"),
    Room("provider_keys", "/console/provider-keys", "provider_keys.read"),
    Room("accounts", "/console/accounts", "accounts.read"),
    Room("me", "/console/me", "me.read"),
    Room("routing", "/console/routing", "routing.read"),
    Room("usage", "/console/usage", "usage.read"),
    Room("calls", "/console/calls", "usage.read"),
    Room("explain", "/console/explain", "explain"),
    Room("operations", "/console/operations", "operations.read"),
    Room("playground", "/console/playground", "playground.open"),
    Room("notices", "/console/notices", "notices.read", in_rail=False),
    Room("settings", "/console/settings", "settings.read"),
    Room("help", "/console/help", "me.read"),
)


def rooms_of(may: Callable[[str], bool]) -> tuple[Room, ...]:
    """The rooms that somebody may enter."""
    return tuple(room for room in ROOMS if may(room.verb))
