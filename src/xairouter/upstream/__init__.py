"""Outbound HTTP: one narrow interface, its driver, and the check of every address.

Open ``interface.py`` first. ``egress.py`` decides which addresses a provider may have;
``http_client.py`` is the driver with its pools, ``connection.py`` the HTTP/1.1 on one connection,
``reply.py`` what its reader gets, ``names.py`` the look-up of names, ``proxy.py`` the way through a
proxy. Only custody sends through
here, because only custody may hold a request with a credential in it.
"""
