"""Settings: one table, read from the environment (``XAIROUTER_…``) and command-line options.

Open this file to learn every knob; ``xairouter settings`` and docs/reference/settings.md are
derived from it.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from xairouter.errors import ConfigError

MB = 1024 * 1024
_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^/\s]*@")
"""The password in a URL."""
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\Z")
_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://([a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?\Z"
)


class Settings(BaseSettings):
    """Every setting with its default, unit and meaning. Frozen after start."""

    model_config = SettingsConfigDict(env_prefix="XAIROUTER_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(Path("data"), description="Folder for the database and the journal.")
    database_url: str = Field(
        "",
        description="postgresql://user:password@host/name or sqlite:///path; empty: SQLite in the "
        "data directory.",
    )
    valkey_url: str = Field(
        "",
        description="valkey://host:port/0: counters of limits and budgets in Valkey or Redis; empty: in "
        "memory.",
    )
    valkey_away: Literal["refuse", "share"] = Field(
        "refuse",
        description="While Valkey is away: `refuse` calls of accounts that have limits, or let each "
        "instance admit its `share` of every limit.",
    )
    instances: int = Field(
        1,
        ge=1,
        description="How many instances there are at least, for shares of limits while Valkey is away; "
        "more are counted where they are heard of.",
    )
    workers: int = Field(
        1,
        ge=1,
        description="Processes on this machine, one listening socket for all; more than one needs "
        "PostgreSQL and Valkey.",
    )
    public_url: str = Field("", description="Address under which clients reach the router.")
    console_host: str = Field(
        "",
        description="A host name of their own for console and management API, which then answer there "
        "and nowhere else, and where calls are not answered; empty: one host for everything.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Origins (comma separated, like https://app.example) whose scripts may call the "
        "data plane from a browser; empty: none.",
    )
    allow_private_providers: bool = Field(
        False, description="Let providers live on loopback and private networks, and use http://."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Networks (comma separated) whose X-Forwarded-For names the client."
    )
    max_body: int = Field(64 * MB, ge=1024, description="Largest request body, in bytes.")
    max_buffered: int = Field(
        256 * MB,
        ge=1024,
        description="Largest sum of request bodies held at once, in bytes; an owner may hold as much as "
        "is free, so at most half of it.",
    )
    max_running: int = Field(
        8000,
        ge=10,
        description="Most calls in flight in one process; above half of them every owner is held to "
        "its equal share.",
    )
    max_accounts: int = Field(
        20_000, ge=1, description="Most accounts of one owner, without deleted ones."
    )
    max_api_keys: int = Field(
        50_000, ge=2, description="Most XAI API keys and open invitations of one owner."
    )
    max_objects: int = Field(
        1_000_000,
        ge=1000,
        description="Most objects at providers (responses, files and the like) that are remembered of "
        "one owner; the oldest are forgotten first, once an hour.",
    )
    output_reserve: int = Field(
        8192,
        ge=1,
        description="Tokens of output reserved for a call that declares none; the most that limits "
        "of tokens reserve.",
    )
    blind_seconds: float = Field(
        60,
        ge=0,
        description="Seconds that known keys keep working while neither the database nor the bus tells "
        "of changes; 0: not at all.",
    )
    metrics_token: str = Field(
        "", description="Bearer token that may read /metrics from anywhere.", repr=False
    )
    otel_endpoint: str = Field(
        "",
        description="http://collector:4318: sends a span of each admitted call there (OTLP/HTTP; needs "
        "xairouter[otel]); empty: none.",
    )
    automation_secret: str = Field(
        "",
        repr=False,
        description="Opens the vaults whose owners granted unattended work; 32 characters or more.",
    )
    webhook_url: str = Field(
        "", description="Where notices that concern the installation are sent; see the how-to."
    )
    webhook_secret: str = Field(
        "", repr=False, description="Signs what is sent to XAIROUTER_WEBHOOK_URL."
    )
    drain_seconds: float = Field(
        30, ge=0, description="Seconds that open calls get to finish after SIGTERM."
    )
    drain_notice_seconds: float = Field(
        0,
        ge=0,
        description="Seconds after SIGTERM in which calls are still served while /readyz says no, so "
        "that load balancers turn elsewhere first.",
    )
    log_level: str = Field("info", description="debug, info, warning or error.")
    provider_proxy: str = Field(
        "",
        description="A proxy through which https providers are reached by CONNECT: "
        "http://[user:password@]host:port. It then decides which addresses may be reached.",
    )
    connect_seconds: float = Field(10, gt=0, description="Seconds to connect to a provider.")
    first_byte_seconds: float = Field(
        600, gt=0, description="Seconds until a provider's reply must begin."
    )
    idle_seconds: float = Field(
        300,
        gt=0,
        description="Longest silence of a provider or a client within a reply, in seconds.",
    )
    total_seconds: float = Field(
        3600, gt=0, description="Longest duration of one call, in seconds."
    )
    header_seconds: float = Field(
        10, gt=0, description="Seconds in which a request's headers must arrive."
    )
    body_idle_seconds: float = Field(
        30, gt=0, description="Longest silence of a client within a request body, in seconds."
    )
    body_seconds: float = Field(
        300, gt=0, description="Seconds in which a whole request body must arrive."
    )
    connections_per_address: int = Field(
        1000, ge=1, description="Most open connections from one client address."
    )
    journal_max_bytes: int = Field(
        1024 * MB,
        ge=MB,
        description="Size of the journal at which new calls are refused, in bytes.",
    )
    journal_sync_ms: int = Field(
        50, ge=0, description="Milliseconds after which journalled frames are forced to disk."
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        for network in value:
            ipaddress.ip_network(network, strict=False)
        return value

    @field_validator("console_host")
    @classmethod
    def _only_a_name(cls, value: str) -> str:
        name = value.strip().lower().removesuffix(".")
        if name and not _HOST_NAME.match(name):
            raise ValueError("must be a host name, without scheme, port and path")
        return name

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        return tuple(_origin(part) for part in value)

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in {"debug", "info", "warning", "error"}:
            raise ValueError("must be debug, info, warning or error")
        return value.lower()

    @property
    def effective_database_url(self) -> str:
        """The database's URL, the embedded SQLite file where none was named."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute()}/xairouter.db"

    @property
    def database_file(self) -> Path | None:
        """The file of an SQLite database; None for a server's, or one in memory."""
        scheme, _, rest = self.effective_database_url.partition(":///")
        path = rest.partition("?")[0]
        if not scheme.startswith("sqlite") or not path or path.startswith(":"):
            return None
        return Path(path)

    @property
    def shown_database(self) -> str:
        """Where the database is, for a person to read."""
        return str(self.database_file or _PASSWORD.sub(r"\1…@", self.effective_database_url))

    def console_url(self, otherwise: str) -> str:
        """The address of the console: the public one, or ``otherwise`` where none is set, at the
        console's own host where it has one."""
        base = self.public_url.rstrip("/") or otherwise
        if not self.console_host:
            return base
        parts = urlsplit(base)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{self.console_host}{port}"

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """Origins whose scripts may call the data plane: where the console has a host of its own, its
        playground too."""
        if not (self.console_host and self.public_url):
            return self.cors_origins
        return (*self.cors_origins, _origin(self.console_url("")))

    @property
    def witness_file(self) -> Path:
        """Where this instance notes what it knows of each vault, outside the database."""
        return self.data_dir / "vault-witness"

    def shown(self, name: str) -> str:
        """A setting's value for a person to read: secrets are only said to be set."""
        value = getattr(self, name)
        if not type(self).model_fields[name].repr:
            return "(set)" if value else ""
        return _PASSWORD.sub(r"\1…@", str(value))

    def source_of(self, name: str, options: dict[str, Any]) -> str:
        """Where the effective value of ``name`` came from: option, environment or default."""
        if name in options:
            return "option"
        return f"XAIROUTER_{name.upper()}" if name in self.model_fields_set else "default"


def _origin(text: str) -> str:
    """An origin as browsers send it: in lower case, without the scheme's own port."""
    found = _ORIGIN.match(text.lower())
    if not found:
        raise ValueError(f"“{text[:100]}” is no origin; give scheme://host or scheme://host:port")
    scheme, host, port = found.groups()
    usual = {"http": "80", "https": "443"}.get(scheme)
    return f"{scheme}://{host}" + (f":{port}" if port and port != usual else "")


def load(**options: Any) -> Settings:
    """Read the settings; ``options`` (None = not given) win over the environment.

    Raises ConfigError with one sentence per problem, among them combinations not yet supported.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        problems = [
            f"XAIROUTER_{'_'.join(str(part) for part in row['loc']).upper()}: {row['msg']}."
            for row in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigError(problems) from None
    problems = []
    scheme = settings.database_url.partition("://")[0].partition("+")[0]
    if settings.workers > 1 and not (scheme in ("postgresql", "postgres") and settings.valkey_url):
        problems.append(
            "XAIROUTER_WORKERS: several processes need a database that all reach "
            "(XAIROUTER_DATABASE_URL=postgresql://…) and counters that all share "
            "(XAIROUTER_VALKEY_URL=valkey://…)."
        )
    if 0 < len(settings.automation_secret) < 32:
        problems.append("XAIROUTER_AUTOMATION_SECRET: needs 32 characters of chance or more.")
    if settings.webhook_url and len(settings.webhook_secret) < 24:
        problems.append(
            "XAIROUTER_WEBHOOK_SECRET: needs 24 characters of chance or more, so that the "
            "receiver can tell who sends."
        )
    if settings.database_url and scheme not in ("postgresql", "postgres", "sqlite"):
        problems.append(
            "XAIROUTER_DATABASE_URL: give postgresql://… or sqlite:///…, or leave it empty."
        )
    if settings.console_host and urlsplit(settings.public_url).hostname == settings.console_host:
        problems.append(
            "XAIROUTER_CONSOLE_HOST: must differ from the host of XAIROUTER_PUBLIC_URL, where calls "
            "are answered."
        )
    if problems:
        raise ConfigError(problems)
    return settings
