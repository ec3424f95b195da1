"""The strongroom: the only code that ever holds a plaintext provider key.

Two doors. In: a raw management body goes to ``intake.py``, a sealed key comes out. Out: a request
without credentials goes to ``room.py``, an upstream response comes out. Nothing returns plaintext,
and no object of the HTTP client library leaves. ``formats.py`` draws the secrets' forms,
``slots.py`` how a secret opens its vault, ``vault.py`` how provider keys are sealed, ``withhold.py``
what a reply may not say. This package takes rows as values and never imports storage.

It cannot promise that CPython wipes memory: references are dropped after use, and no more is said.
"""
