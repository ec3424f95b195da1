"""Counters behind limits and budgets: reserve before a call, settle after it, nothing leaked.

Open ``interface.py`` first; ``memory.py`` counts in this process. Counters are a cache of the usage
records: what they begin with is read from there (``history.py``).
"""
