"""The live picture of owners that an instance holds: who a key is, what its owner has.

Open ``directory.py`` for the pictures, ``identity.py`` for whose key a request carries. Pictures
are built from storage when first asked for and dropped when the ``changes`` table says that their
owner changed; nothing here writes to storage.
"""
