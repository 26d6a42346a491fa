"""The live sessions on this node, and what is written to them in one reactor turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imconnect.core.session import Session, Stage

_NOBODY: Sequence[Session] = ()


class Hub:
    """Registers sessions by user. Several connections of one user live side by side, oldest first."""

    def __init__(self, connections_per_user: int, slow: Callable[[Session], None]) -> None:
        self._per_user = connections_per_user
        self._slow = slow
        self._users: dict[int, list[Session]] = {}
        self._touched: list[Session] = []
        self.sessions = 0

    @property
    def users(self) -> int:
        return len(self._users)

    def signed_in(self) -> list[int]:
        """The users that have a session here."""
        return list(self._users)

    def all(self) -> list[Session]:
        return [session for sessions in self._users.values() for session in sessions]

    def of(self, user: int) -> Sequence[Session]:
        """This user's sessions here; do not keep."""
        return self._users.get(user, _NOBODY)

    def enter(self, session: Session) -> list[Session]:
        """Register a session; -> those it replaces: the same device, or the oldest over the limit."""
        sessions = self._users.setdefault(session.user, [])
        device = session.identity.device
        replaced = [other for other in sessions if device and other.identity.device == device]
        sessions.append(session)
        self.sessions += 1
        others = [other for other in sessions[:-1] if other not in replaced]
        over = len(others) + 1 - self._per_user
        return replaced + others[: max(0, over)]

    def leave(self, session: Session) -> bool:
        """Forget a session; -> whether it was the user's last one here."""
        sessions = self._users[session.user]
        sessions.remove(session)
        self.sessions -= 1
        if sessions:
            return False
        del self._users[session.user]
        return True

    def say(self, session: Session, payload: bytes) -> None:
        """Send at the end of this turn, together with whatever else goes to this session."""
        if session.stage is Stage.ENDED:
            return
        if not session.out:
            self._touched.append(session)
        session.out.append(payload)

    def tell(self, user: int, payload: bytes) -> bool:
        """Send to every session of a user; -> whether there was one."""
        sessions = self._users.get(user)
        if sessions is None:
            return False
        for session in sessions:
            self.say(session, payload)
        return True

    def flush(self) -> None:
        """One write per session. Whoever cannot take it is a slow reader."""
        while self._touched:
            touched, self._touched = self._touched, []
            for session in touched:
                payloads, session.out = session.out, []
                if session.stage is not Stage.ENDED and not session.link.write(payloads):
                    self._slow(session)
