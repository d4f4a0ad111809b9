"""`python -m veil`: the command line."""

from veil.cli import main

if __name__ == "__main__":
    main()
