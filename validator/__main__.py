"""`python -m validator` is `gpu-validator`."""

import sys

from gpu_env_validator import main

sys.exit(main())
