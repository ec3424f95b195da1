"""Decisions as pure functions of values: no clock, no chance, no I/O.

Open ``decide.py`` first: the rules in the order in which they are asked. ``routing.py`` finds the
routes of a model among an owner's provider keys, ``patterns.py`` says what a name with ``*``
matches, ``limits.py`` what a call is held against.
"""
