"""`python -m validator` is `gpu-validator`."""

import sys

from validator.cli import main

sys.exit(main())
