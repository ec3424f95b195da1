"""What calls use and cost, as arithmetic on values: no I/O, no clock, no state.

Open ``reservation.py`` for the most that a call can use, ``left_open.py`` for what that does not cover
and a final statement closes, ``cost.py`` for money.
"""
