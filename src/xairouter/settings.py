"""Settings: one table, read from the environment (``XAIROUTER_…``) and command-line options.

Open this file to learn every knob; ``xairouter settings`` and docs/reference/settings.md are
derived from it.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from xairouter.errors import ConfigError

MB = 1024 * 1024


class Settings(BaseSettings):
    """Every setting with its default, unit and meaning. Frozen after start."""

    model_config = SettingsConfigDict(env_prefix="XAIROUTER_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(Path("data"), description="Folder for the database and the journal.")
    database_url: str = Field(
        "", description="SQLAlchemy URL of the database; empty: SQLite in the data directory."
    )
    valkey_url: str = Field(
        "", description="Valkey/Redis for several instances; not yet supported."
    )
    workers: int = Field(
        1, ge=1, description="Processes to run; more than one is not yet supported."
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
    blind_seconds: float = Field(
        60, ge=0, description="Seconds that known keys keep working while the database is away."
    )
    metrics_token: str = Field(
        "", description="Bearer token that may read /metrics from anywhere.", repr=False
    )
    automation_secret: str = Field(
        "",
        repr=False,
        description="Opens the vaults whose owners granted unattended work; 32 characters or more.",
    )
    drain_seconds: float = Field(
        30, ge=0, description="Seconds that open calls get to finish after SIGTERM."
    )
    log_level: str = Field("info", description="debug, info, warning or error.")
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
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir.absolute()}/xairouter.db"

    @property
    def witness_file(self) -> Path:
        """Where this instance notes what it knows of each vault, outside the database."""
        return self.data_dir / "vault-witness"

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
    if settings.workers > 1:
        problems.append(
            "XAIROUTER_WORKERS: several processes need PostgreSQL and Valkey, which this "
            "version does not support yet; run one."
        )
    if 0 < len(settings.automation_secret) < 32:
        problems.append("XAIROUTER_AUTOMATION_SECRET: needs 32 characters of chance or more.")
    if settings.valkey_url:
        problems.append("XAIROUTER_VALKEY_URL: Valkey is not supported yet; leave it empty.")
    if settings.database_url and not settings.database_url.startswith("sqlite+aiosqlite:"):
        problems.append("XAIROUTER_DATABASE_URL: only sqlite+aiosqlite:///… is supported yet.")
    if problems:
        raise ConfigError(problems)
    return settings
