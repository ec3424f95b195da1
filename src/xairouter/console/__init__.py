"""The HTML face of ``manage``: rendered on the server, no build step, strict security policy.

Open ``pages.py`` for the pages there are: each is a function of a module in ``rooms/``, does verbs of
``manage`` and nothing else, and shows a template of ``templates/``, built of the parts in
``templates/parts.html``. Every word stands in ``words/``. ``visit.py`` lets people in and sets the
headers of every page, ``show.py`` writes figures, ``ranges.py`` reads times, ``library.py`` renders
the docs. What others made and the console serves lies in ``static/vendor/``. Pages read and forms
work without scripts; a script may add to a page and never be what it depends on.
"""
