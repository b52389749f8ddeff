"""Shapes and types are checked while tests run: jaxtyping with beartype on the whole package."""

import os

from jaxtyping import install_import_hook

if os.environ.get("PELLUCID_TYPECHECK", "1") == "1":
    install_import_hook("pellucid", "typechecker.check")
