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
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.engine import Dialect

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Words(TypeDecorator[str]):
    """Text of a bounded length that may come from outside.

    What a database cannot hold (zero characters, halves of surrogate pairs) is stored as U+FFFD,
    so that a hostile name is an unknown name and no error.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or value.isprintable():
            return value
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


# SQLite counts rows by INTEGER only.
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")

owners = Table(
    "owners",
    metadata,
    Column("id", Words(40), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("vault_epoch", Integer, nullable=False),
    Column("vault_revision", BigInteger, nullable=False),
    Column("seen_by_operator", Boolean, nullable=False, server_default=false()),
    Column("settings", Text, nullable=False, server_default="{}"),
    Column("prices", Text, nullable=False, server_default="{}"),
    Column("routing", Text, nullable=False, server_default="{}"),
    Column("webhook_secret", Words(64)),
)

successions = Table(
    "successions",
    metadata,
    Column("owner_id", Words(40), ForeignKey("owners.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("successor", Words(64), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Words(40), primary_key=True),
    Column("owner_id", Words(40), ForeignKey("owners.id"), nullable=False, index=True),
    Column("parent_id", Words(40), ForeignKey("accounts.id"), index=True),
    Column("name", Words(128), nullable=False),
    Column("email", Words(320)),
    Column("status", Words(16), nullable=False),
    Column("suspended_by_operator", Boolean, nullable=False, server_default=false()),
    Column("can_manage", Boolean, nullable=False, server_default=false()),
    Column("rules", Text, nullable=False, server_default="{}"),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("deleted_at_ms", BigInteger),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Words(40), primary_key=True),
    Column("owner_id", Words(40), ForeignKey("owners.id"), nullable=False, index=True),
    Column("account_id", Words(40), ForeignKey("accounts.id"), nullable=False, index=True),
    Column("name", Words(128), nullable=False),
    Column("scope", Words(16), nullable=False),
    Column("status", Words(16), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("replaced_by", Words(40)),
    Column("deleted_at_ms", BigInteger),
    Column("session_id", Words(40)),
    Column("panic_of", Words(40)),
)

slots = Table(
    "slots",
    metadata,
    Column("id", Words(40), primary_key=True),
    Column("owner_id", Words(40), ForeignKey("owners.id"), nullable=False, index=True),
    Column("purpose", Words(16), nullable=False),
    Column("account_id", Words(40), nullable=False),
    Column("key_id", Words(40), nullable=False, index=True),
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
    Column("id", Words(40), primary_key=True),
    Column("owner_id", Words(40), ForeignKey("owners.id"), nullable=False, index=True),
    Column("name", Words(128), nullable=False),
    Column("provider", Words(64), nullable=False),
    Column("endpoints", Text, nullable=False),
    Column("auth", Text, nullable=False),
    Column("level", Integer, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("models", Text),
    Column("discovered", Text),
    Column("status", Words(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("last4", Words(4)),
    Column("fingerprint", Words(40), nullable=False),
    Column("health", Words(16), nullable=False),
    Column("health_why", Text),
    Column("created_at_ms", BigInteger, nullable=False),
)

# Every commit of the management plane appends here; instances follow it to drop stale pictures.
changes = Table(
    "changes",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("owner_id", Words(40), nullable=False),
    Column("kind", Words(32), nullable=False),
    Column("target_id", Words(40), nullable=False),
    sqlite_autoincrement=True,
)

operations = Table(
    "operations",
    metadata,
    Column("id", Words(40), primary_key=True),
    Column("owner_id", Words(40), nullable=False, index=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor_key_id", Words(40)),
    Column("actor_account_id", Words(40)),
    Column("actor", Words(16), nullable=False),
    Column("verb", Words(64), nullable=False),
    Column("target_id", Words(40)),
    Column("client_ip", Words(64)),
    Column("result", Words(32), nullable=False),
    Column("detail", Text),
)

usage_records = Table(
    "usage_records",
    metadata,
    Column("call_id", Words(40), primary_key=True),
    Column("owner_id", Words(40), nullable=False),
    Column("account_id", Words(40), nullable=False),
    Column("key_id", Words(40), nullable=False),
    Column("provider_key_id", Words(40)),
    Column("provider", Words(64)),
    Column("level", Integer),
    Column("dialect", Words(32), nullable=False),
    Column("method", Words(8), nullable=False),
    Column("path", Text, nullable=False),
    Column("client_ip", Words(64), nullable=False),
    Column("label", Words(64)),
    Column("session", Words(128)),
    Column("model_asked", Text),
    Column("model_used", Text),
    Column("stream", Boolean, nullable=False),
    Column("max_output_tokens", BigInteger),
    Column("reserved_tokens", BigInteger),
    Column("reserved_nano", BigInteger),
    Column("status", Integer),
    Column("outcome", Words(16), nullable=False),
    Column("error_code", Words(32)),
    Column("attempts", Integer, nullable=False),
    Column("input_tokens", BigInteger),
    Column("cached_input_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("usage_detail", Text),
    Column("usage_source", Words(16), nullable=False),
    Column("cost_nano", BigInteger),
    Column("price_version", Text),
    Column("price_used", Text),
    Column("provider_cost_nano", BigInteger),
    Column("provider_request_id", Text),
    Column("provider_object_id", Words(128)),
    Column("service_tier", Words(64)),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("first_byte_ms", BigInteger),
    Column("total_ms", BigInteger),
    Column("counted_tokens", BigInteger),
    Column("counted_nano", BigInteger),
    Column("settled", Text),
    Index("ix_usage_records_owner_started", "owner_id", "started_at_ms"),
    Index("ix_usage_records_owner_account_started", "owner_id", "account_id", "started_at_ms"),
)

# Raised by the drain, by inserted records only. One row per hour and combination.
usage_hours = Table(
    "usage_hours",
    metadata,
    Column("owner_id", Words(40), nullable=False),
    Column("hour_ms", BigInteger, nullable=False),
    Column("account_id", Words(40), nullable=False),
    Column("key_id", Words(40), nullable=False),
    Column("provider_key_id", Words(40), nullable=False),
    Column("provider", Words(64), nullable=False),
    Column("model", Text, nullable=False),
    Column("label", Words(64), nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False, server_default="0"),
    Column("cache_write_tokens", BigInteger, nullable=False, server_default="0"),
    Column("counted_nano", BigInteger, nullable=False, server_default="0"),
    Index("ix_usage_hours_owner_account_hour", "owner_id", "account_id", "hour_ms"),
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

# The same by day and by month (of UTC), and by one dimension alone (``all``: value ``""``; ``hour``,
# by the day only: hours since 1970).
usage_sums = Table(
    "usage_sums",
    metadata,
    Column("owner_id", Words(40), primary_key=True),
    Column("grain", Words(8), primary_key=True),
    Column("dimension", Words(16), primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Index("ix_usage_sums_value", "owner_id", "grain", "dimension", "value", "start_ms"),
    sqlite_with_rowid=False,
)

# What budgets count of all time, by account and model.
usage_counted = Table(
    "usage_counted",
    metadata,
    Column("owner_id", Words(40), primary_key=True),
    Column("account_id", Words(40), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("counted_nano", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# One chain per owner over usage records and operations: hash = SHA-256(previous | leaf), of which the
# last one is kept in ``chain_heads``.
chain = Table(
    "chain",
    metadata,
    Column("owner_id", Words(40), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("kind", Words(16), nullable=False),
    Column("ref_id", Words(40), nullable=False),
    Column("salt", LargeBinary(16), nullable=False),
    Column("leaf", LargeBinary(32), nullable=False),
    sqlite_with_rowid=False,
)

chain_heads = Table(
    "chain_heads",
    metadata,
    Column("owner_id", Words(40), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
)

# Where a chain begins, since entries of forgotten records were pruned: the hash of the last of them,
# and what holds the operations' entries among them, which stay.
chain_bases = Table(
    "chain_bases",
    metadata,
    Column("owner_id", Words(40), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("kept", LargeBinary(32), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("mac", Words(64), nullable=False),
)

# Up to where a chain was verified, when, when it was from its beginning, and a MAC of the owner's vault.
chain_points = Table(
    "chain_points",
    metadata,
    Column("owner_id", Words(40), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("whole_at_ms", BigInteger, nullable=False),
    Column("mac", Words(64), nullable=False),
)

# Responses and other objects that a provider keeps: who made them, which provider key holds them.
# ``call_id`` is the call whose record the object's end settles (null: none, or settled), ``final``
# that end where it was seen before the record was stored.
provider_objects = Table(
    "provider_objects",
    metadata,
    Column("owner_id", Words(40), primary_key=True),
    Column("object_id", Words(1024), primary_key=True),
    Column("account_id", Words(40), nullable=False),
    Column("provider_key_id", Words(40), nullable=False),
    Column("dialect", Words(32), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("call_id", Words(40)),
    Column("final", Text),
    Index("ix_provider_objects_owner_created", "owner_id", "created_at_ms"),
)

# A link's token is known by its hash only; the row goes when the link is used.
one_time_links = Table(
    "one_time_links",
    metadata,
    Column("token_hash", LargeBinary(32), primary_key=True),
    Column("purpose", Words(16), nullable=False),
    Column("account_id", Words(40), nullable=False),
    Column("name", Words(128)),
    Column("email", Words(320)),
    Column("expires_at_ms", BigInteger, nullable=False),
)

# Sessions of the operator: they open no vault, and their tokens are known by their hashes only.
operator_sessions = Table(
    "operator_sessions",
    metadata,
    Column("token_hash", LargeBinary(32), primary_key=True),
    Column("expires_at_ms", BigInteger, nullable=False),
)

# What needs a person's eye. ``owner_id`` is empty for what concerns the installation; at
# ``next_try_ms`` the webhook is told (null: nothing to tell, told already, or given up).
notices = Table(
    "notices",
    metadata,
    Column("id", Words(40), primary_key=True),
    Column("owner_id", Words(40), nullable=False, index=True),
    Column("kind", Words(32), nullable=False),
    Column("subject_id", Words(256), nullable=False),
    Column("detail", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_at_ms", BigInteger, nullable=False),
    Column("last_at_ms", BigInteger, nullable=False),
    Column("dismissed_at_ms", BigInteger),
    Column("delivered_at_ms", BigInteger),
    Column("tries", Integer, nullable=False),
    Column("next_try_ms", BigInteger, index=True),
    Column("last_error", Words(256)),
)
