"""What the words mean: frozen values and closed vocabularies, no rules, no I/O.

Open ``accounts.py`` for the tree and its keys, ``calls.py`` for the data plane's values,
``records.py`` for the usage record. Nothing here imports anything of the product but this floor.
"""
