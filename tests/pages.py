"""What the docs tell a reader to paste, for the tests that do what the reader does."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
URL = "http://127.0.0.1:8080"


def blocks(page: str, language: str, url: str = URL) -> list[str]:
    """The code blocks of a page in a language, with the router's address in place."""
    found = re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return [block.replace(URL, url) for block in found]


def exports(page: str, url: str, key: str) -> dict[str, str]:
    """The environment that a page's ``export`` lines make."""
    lines = re.findall(r"^export (\w+)=(.*)$", "".join(blocks(page, "sh", url)), re.MULTILINE)
    return {name: key if value in ("$XAI_KEY", "sk-Xvs…") else value for name, value in lines}
