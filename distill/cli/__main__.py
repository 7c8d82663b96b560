"""``python -m distill.cli``: the ``distill`` command."""

import sys

from distill.cli.command import main

sys.exit(main())
