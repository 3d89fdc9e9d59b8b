"""`python -m blindsr` is `blindsr`."""

from blindsr.cli.main import main

if __name__ == "__main__":
    main()
