"""The stand-in provider: speaks the dialects, plays every fault, records what it received.

Open ``server.py`` for the listener and the record, ``replies.py`` for what it says in each
dialect, ``faults.py`` for what can go wrong on purpose. It stands in for OpenAI, Anthropic and
Gemini at one address, for tests, demos and trying things out; nothing in it is for production.
"""
