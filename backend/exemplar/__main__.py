"""`python -m exemplar` is the command `exemplar`."""

from exemplar.cli import main

if __name__ == "__main__":
    main()
