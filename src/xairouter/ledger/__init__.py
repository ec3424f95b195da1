"""The write-ahead journal of calls: no place in the book, no call.

Open ``frames.py`` for what is written, ``journal.py`` for how, ``book.py`` for the entry of one
call, ``drain.py`` for the way into storage and the recovery after a crash.
"""
