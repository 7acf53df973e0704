"""Who may see the page: a token once, then a cookie that proves it was known. Pure.

Neither is ever logged. The cookie is made from the token, so it survives restarts and ends with the token.
"""

import hashlib
import hmac

COOKIE = "federation_page"
COOKIE_AGE_S = 180 * 86400


class Gate:
    """Lets those in who know the token.

    Args:
        token: None lets everybody in.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token.encode() if token is not None else None

    @property
    def is_open(self) -> bool:
        """Everybody may look."""
        return self._token is None

    @property
    def pass_value(self) -> str:
        """What the cookie of those who know the token holds."""
        return hmac.new(self._token or b"", b"federation page, cookie 1", hashlib.sha256).hexdigest()

    def knows(self, token: str) -> bool:
        """True for the right token; takes the same time for every wrong one of its length."""
        return self._token is not None and hmac.compare_digest(token.strip().encode(), self._token)

    def admits(self, cookie: str | None) -> bool:
        """True for those who have shown the token before, and for all when none is needed."""
        return self.is_open or (cookie is not None and hmac.compare_digest(cookie.encode(), self.pass_value.encode()))
