"""The known providers as data: one small file each, collected in ``PROVIDERS``.

Open ``interface.py`` for what a row says, any provider's file for an example, ``prices.py`` for
how the price list is compiled. Adding a provider is a file here, a row in ``table.py`` and a
fixture folder. No code outside this package compares with a provider's name.
"""
