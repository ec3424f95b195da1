"""The data plane: from a request's bytes to a reply's bytes, without a framework on the path.

Open ``pipeline.py`` first: the life of a call. ``edge.py`` bounds what a connection may do,
``framing.py`` says which heads are refused, ``link.py`` writes replies, ``asgi.py`` finds the way of a
request, ``talk.py`` is the client's side of a call, ``relay.py`` passes the provider's reply on,
``running.py`` knows every call in flight and ends those that may not go on, ``serving.py`` names what
is used of uvicorn. This package never enters ``manage``.
"""
