"""XAI Router: a self-hosted, multi-tenant bring-your-own-key gateway for LLM APIs.

Start with ``gateway/pipeline.py`` (the life of a call) and ARCHITECTURE.md (the map).
"""

__version__ = "0.1.0"
