"""A hosted demo: the page of `preimage explore`, for platforms that run app.py. $PREIMAGE_PASSWORD is what it asks for, $PORT where it listens."""

from __future__ import annotations

import os

from preimage.serve.server import serve


def main() -> None:
    """Answer whoever knows the password."""
    port, password = int(os.environ.get("PORT", "7860")), os.environ.get("PREIMAGE_PASSWORD")
    serve(host=os.environ.get("HOST", "0.0.0.0"), port=port, password=password, browser=False)


if __name__ == "__main__":
    main()
