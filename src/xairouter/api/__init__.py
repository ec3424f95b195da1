"""The JSON face of ``manage``: FastAPI under /api/v1, with its OpenAPI document.

Open ``routes.py``. ``asking.py`` says who asks, ``problems.py`` how a “no” looks, ``bodies.py``
what bodies may hold. No decision is made here.
"""
