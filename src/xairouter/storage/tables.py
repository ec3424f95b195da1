"""The schema. Instants are milliseconds since 1970, money is nano-dollars, ids are our own.

A change here needs a migration in ``migrations/versions`` (a test compares the two).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rows by INTEGER only.
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")

owners = Table(
    "owners",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("vault_epoch", Integer, nullable=False),
    Column("vault_revision", BigInteger, nullable=False),
    Column("seen_by_operator", Boolean, nullable=False, server_default=false()),
    Column("settings", Text, nullable=False, server_default="{}"),
    Column("prices", Text, nullable=False, server_default="{}"),
    Column("routing", Text, nullable=False, server_default="{}"),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner_id", String(40), ForeignKey("owners.id"), nullable=False, index=True),
    Column("parent_id", String(40), ForeignKey("accounts.id"), index=True),
    Column("name", String(128), nullable=False),
    Column("email", String(320)),
    Column("status", String(16), nullable=False),
    Column("suspended_by_operator", Boolean, nullable=False, server_default=false()),
    Column("can_manage", Boolean, nullable=False, server_default=false()),
    Column("rules", Text, nullable=False, server_default="{}"),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("deleted_at_ms", BigInteger),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner_id", String(40), ForeignKey("owners.id"), nullable=False, index=True),
    Column("account_id", String(40), ForeignKey("accounts.id"), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("replaced_by", String(40)),
    Column("deleted_at_ms", BigInteger),
)

slots = Table(
    "slots",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner_id", String(40), ForeignKey("owners.id"), nullable=False, index=True),
    Column("purpose", String(16), nullable=False),
    Column("account_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False, index=True),
    Column("look_up_id", LargeBinary(32), nullable=False, unique=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("anchor", LargeBinary, nullable=False),
    Column("id_tag", LargeBinary, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("ciphertext", LargeBinary),
    Column("seal_tag", LargeBinary),
    Column("version", Integer, nullable=False),
    Column("expires_at_ms", BigInteger, index=True),
)

provider_keys = Table(
    "provider_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner_id", String(40), ForeignKey("owners.id"), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("endpoints", Text, nullable=False),
    Column("auth", Text, nullable=False),
    Column("level", Integer, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("models", Text),
    Column("discovered", Text),
    Column("status", String(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("last4", String(4)),
    Column("fingerprint", String(40), nullable=False),
    Column("health", String(16), nullable=False),
    Column("health_why", Text),
    Column("created_at_ms", BigInteger, nullable=False),
)

# Every commit of the management plane appends here; instances follow it to drop stale pictures.
changes = Table(
    "changes",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("owner_id", String(40), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("target_id", String(40), nullable=False),
    sqlite_autoincrement=True,
)

operations = Table(
    "operations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner_id", String(40), nullable=False, index=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor_key_id", String(40)),
    Column("actor_account_id", String(40)),
    Column("actor", String(16), nullable=False),
    Column("verb", String(64), nullable=False),
    Column("target_id", String(40)),
    Column("client_ip", String(64)),
    Column("result", String(32), nullable=False),
    Column("detail", Text),
)

usage_records = Table(
    "usage_records",
    metadata,
    Column("call_id", String(40), primary_key=True),
    Column("owner_id", String(40), nullable=False),
    Column("account_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("provider_key_id", String(40)),
    Column("provider", String(64)),
    Column("level", Integer),
    Column("dialect", String(32), nullable=False),
    Column("method", String(8), nullable=False),
    Column("path", Text, nullable=False),
    Column("client_ip", String(64), nullable=False),
    Column("label", String(64)),
    Column("session", String(128)),
    Column("model_asked", Text),
    Column("model_used", Text),
    Column("stream", Boolean, nullable=False),
    Column("max_output_tokens", BigInteger),
    Column("reserved_tokens", BigInteger),
    Column("reserved_nano", BigInteger),
    Column("status", Integer),
    Column("outcome", String(16), nullable=False),
    Column("error_code", String(32)),
    Column("attempts", Integer, nullable=False),
    Column("input_tokens", BigInteger),
    Column("cached_input_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("usage_detail", Text),
    Column("usage_source", String(16), nullable=False),
    Column("cost_nano", BigInteger),
    Column("price_version", Text),
    Column("price_used", Text),
    Column("provider_cost_nano", BigInteger),
    Column("provider_request_id", Text),
    Column("provider_object_id", String(128)),
    Column("service_tier", String(64)),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("first_byte_ms", BigInteger),
    Column("total_ms", BigInteger),
    Index("ix_usage_records_owner_started", "owner_id", "started_at_ms"),
    Index("ix_usage_records_owner_account_started", "owner_id", "account_id", "started_at_ms"),
)

# Raised by the drain, by inserted records only. One row per hour and combination.
usage_hours = Table(
    "usage_hours",
    metadata,
    Column("owner_id", String(40), nullable=False),
    Column("hour_ms", BigInteger, nullable=False),
    Column("account_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("provider_key_id", String(40), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("model", Text, nullable=False),
    Column("label", String(64), nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    UniqueConstraint(
        "owner_id",
        "hour_ms",
        "account_id",
        "key_id",
        "provider_key_id",
        "provider",
        "model",
        "label",
        name="uq_usage_hours_combination",
    ),
)

# One chain per owner over usage records and operations: hash = SHA-256(previous | leaf).
chain = Table(
    "chain",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("ref_id", String(40), nullable=False),
    Column("salt", LargeBinary(16), nullable=False),
    Column("leaf", LargeBinary(32), nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Index("ix_chain_ref", "ref_id"),
)

chain_heads = Table(
    "chain_heads",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
)

# Responses and other objects that a provider keeps: who made them, which provider key holds them.
provider_objects = Table(
    "provider_objects",
    metadata,
    Column("owner_id", String(40), primary_key=True),
    Column("object_id", String(128), primary_key=True),
    Column("account_id", String(40), nullable=False),
    Column("provider_key_id", String(40), nullable=False),
    Column("dialect", String(32), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

# A link's token is known by its hash only; the row goes when the link is used.
one_time_links = Table(
    "one_time_links",
    metadata,
    Column("token_hash", LargeBinary(32), primary_key=True),
    Column("purpose", String(16), nullable=False),
    Column("account_id", String(40), nullable=False),
    Column("name", String(128)),
    Column("email", String(320)),
    Column("expires_at_ms", BigInteger, nullable=False),
)
