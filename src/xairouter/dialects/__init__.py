"""Wire formats, sans-io: find the operation, peek at a request, splice it, meter a reply, refuse.

Open ``table.py`` first: it lists the dialects. ``paths.py`` reads request lines, ``peek.py``
looks into bodies without a full parse, ``meter.py`` watches replies; each dialect's own file says
what is peculiar to it, its errors included (``refuse``). Nothing here does
I/O, asks the clock or knows a provider by name.
"""
