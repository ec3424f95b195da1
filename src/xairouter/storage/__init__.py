"""Durable state: SQLAlchemy Core tables, Alembic migrations, one module of queries per kind.

Open ``tables.py`` for the schema, ``database.py`` for connections and transactions. Queries take
values and give values; the owner is the first argument and the first condition. Ids and instants
are made by the callers; this package stores what it is given.
"""
