"""The way to the counters' server: scripts are run there in the order in which they are asked for, and
those that are asked for while a round trip is under way share the next one."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from xairouter.errors import ValkeyAwayError
from xairouter.storage.valkey import answered

MOST_SENT = 100
"""Scripts of one round trip."""
AWAY = "The counters cannot be read now"

_Asked = tuple[str, str, Sequence[Any], "asyncio.Future[Any]"]


class Line:
    """``scripts`` are Lua texts by name; each takes one key and its arguments."""

    def __init__(self, client: Any, scripts: Mapping[str, str]) -> None:
        self._client = client
        self._scripts = {name: client.register_script(text) for name, text in scripts.items()}
        self._asked: list[_Asked] = []
        self._sending: asyncio.Task[None] | None = None

    def run(self, name: str, key: str, arguments: Sequence[Any]) -> "asyncio.Future[Any]":
        """What a script answers, once it has; a ValkeyAwayError if it does not. Its turn is taken
        now, whether or not somebody waits for it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._asked.append((name, key, arguments, answer))
        if self._sending is None:
            self._sending = loop.create_task(self._send())
        return answer

    async def finish(self) -> None:
        """Wait until nothing is under way."""
        if self._sending is not None:
            await self._sending

    async def _send(self) -> None:
        try:
            while asked := self._asked[:MOST_SENT]:
                del self._asked[:MOST_SENT]
                await self._trip(asked)
        finally:
            self._sending = None

    async def _trip(self, asked: Sequence[_Asked]) -> None:
        """One round trip; more where the server does not know the scripts."""
        from valkey.exceptions import NoScriptError, ValkeyError

        away = ""
        answers: list[Any] = []
        try:
            answers = await self._ask(asked)
            unknown = [at for at, said in enumerate(answers) if isinstance(said, NoScriptError)]
            if unknown:
                for script in self._scripts.values():
                    await answered(self._client.script_load(script.script), AWAY)
                again = await self._ask([asked[at] for at in unknown])
                for at, said in zip(unknown, again, strict=True):
                    answers[at] = said
        except ValkeyAwayError as error:
            away = str(error)
        finally:
            for at, (*_, waiting) in enumerate(asked):
                if waiting.done():
                    continue
                if away:
                    waiting.set_exception(ValkeyAwayError(away))
                elif not answers:  # The process ends.
                    waiting.cancel()
                elif isinstance(answers[at], ValkeyError):
                    failed = f"{AWAY} ({type(answers[at]).__name__})."
                    waiting.set_exception(ValkeyAwayError(failed))
                else:
                    waiting.set_result(answers[at])

    async def _ask(self, asked: Sequence[_Asked]) -> list[Any]:
        sent = self._client.pipeline(transaction=False)
        for name, key, arguments, _ in asked:
            sent.evalsha(self._scripts[name].sha, 1, key, *arguments)
        answers: list[Any] = await answered(sent.execute(raise_on_error=False), AWAY)
        return answers
