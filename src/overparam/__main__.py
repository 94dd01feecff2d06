"""``python -m overparam``: the command line."""

from overparam.cli.main import main

if __name__ == "__main__":
    main()
