"""Outbound HTTP: one narrow interface, its driver, and the check of every address.

Open ``interface.py`` first. ``egress.py`` decides which addresses a provider may have;
``aiohttp_client.py`` is the driver. Only custody sends through here, because only custody may
hold a request with a credential in it.
"""
