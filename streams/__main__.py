"""``python -m streams``: the ``tenfold`` command without its script on the PATH."""

from streams.cli import main

if __name__ == "__main__":
    main()
