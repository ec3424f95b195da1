"""``python -m xairouter`` is the same as the ``xairouter`` command."""

from xairouter.cli import main

if __name__ == "__main__":
    main()
