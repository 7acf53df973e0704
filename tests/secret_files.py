"""Files with secrets, as the product wants them: readable by us alone."""

from pathlib import Path


def write_secret(path: Path, secret: str) -> Path:
    """A file of mode 0600 with a secret."""
    path.touch(mode=0o600)
    path.write_text(secret)
    return path
