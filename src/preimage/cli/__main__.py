"""`python -m preimage.cli`, for launchers that want a module."""

import sys

from preimage.cli import main

sys.exit(main())
