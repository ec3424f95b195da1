"""The JSON face of ``manage``: FastAPI under /api/v1, with its OpenAPI document.

Open ``routes/``: a module for each subject. ``asking.py`` says who asks, ``problems.py`` how a
refusal looks, ``bodies.py`` what bodies may hold. No decision is made here.
"""
