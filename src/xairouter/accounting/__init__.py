"""What calls use and cost, as arithmetic on values: no I/O, no clock, no state.

Open ``reservation.py`` for the most that a call can use, ``cost.py`` for money.
"""
