"""Build the oracle's program, so that no test has to wait for it: python -m oracle."""

import sys

from oracle import NoOracle, build

try:
    print(f"the oracle is {build()}", file=sys.stderr)
except NoOracle as error:
    sys.exit(f"oracle: {error}")
