"""`python -m teachvae` is `teachvae`."""

import sys

from .cli import main

sys.exit(main())
