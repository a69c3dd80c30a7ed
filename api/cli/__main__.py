"""`python -P -m api.cli`, for where the `ratchet` script is not on the path."""

from api.cli.main import main

main()
