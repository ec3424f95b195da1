"""Settings: one table, read from the environment (``XAIROUTER_…``) and command-line options.

Open this file to learn every knob; ``xairouter settings`` and docs/reference/settings.md are
derived from it.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from xairouter.errors import ConfigError

MB = 1024 * 1024
_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^/\s]*@")
"""The password in a URL."""


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
    allow_private_providers: bool = Field(
        False, description="Let providers live on loopback and private networks, and use http://."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Networks (comma separated) whose X-Forwarded-For names the client."
    )
    max_body: int = Field(64 * MB, ge=1024, description="Largest request body, in bytes.")
    max_buffered: int = Field(
        256 * MB, ge=1024, description="Largest sum of request bodies held at once, in bytes."
    )
    max_running: int = Field(
        8000,
        ge=10,
        description="Most calls in flight in one process; above half of them every owner is held to "
        "its equal share.",
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
    if problems:
        raise ConfigError(problems)
    return settings
