"""A service tree that logs as the configuration says, from twistd's first line on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO

from twisted.application.service import IServiceCollection
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from imconnect.config.tree import Log
from imconnect.observe import logs
from imconnect.service import OrderedService


class LoggedService(OrderedService):
    """Installs its observer when it learns to which application it belongs."""

    def __init__(
        self, reactor: Any, fail: Callable[[str, Failure], None], log: Log, stream: TextIO | None
    ) -> None:
        super().__init__(reactor, fail)
        self._log = log
        self._stream = stream

    def setServiceParent(self, parent: IServiceCollection) -> None:
        if isinstance(parent, Componentized):
            logs.install(parent, self._log.format, self._log.level, self._stream)
        super().setServiceParent(parent)
