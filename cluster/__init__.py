"""A cluster on one machine, for trying the scaled set-up out: see ``__main__.py``."""
