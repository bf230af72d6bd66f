"""`python -m separatrix` is `separatrix`."""

from separatrix.cli import main

main()
