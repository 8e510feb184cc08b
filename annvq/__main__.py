"""``python -m annvq`` is the command ``annvq``."""

from annvq.cli.__main__ import main

if __name__ == "__main__":
    main()
