"""The HTML face of ``manage``: rendered on the server, no build step, strict security policy.

Open ``pages.py`` for the pages there are, ``templates/`` for how they look, ``snippets.py`` for the
ready-made lines that a newcomer copies. It reads and every form works with JavaScript off.
"""
