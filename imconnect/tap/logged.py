"""What `makeService` of both commands does: a service tree that logs as configured, from twistd's first line on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TextIO

from twisted.application.service import IServiceCollection
from twisted.python.components import Componentized

from imconnect.config import Config, unsupported
from imconnect.observe import logs
from imconnect.service import OrderedService, ProcessEnd
from imconnect.tap.live import Live
from imconnect.tap.options import Options, refused

#: Seconds for what follows the drain when the process stops (interface.md section 7).
AFTER_DRAIN = 5.0
#: Armed by tests: the process dies at a named point.
FAULT = "IMCONNECT_FAULT"


class LoggedService(OrderedService):
    """Installs its observer when it learns to which application it belongs."""

    def __init__(self, reactor: Any, end: ProcessEnd, config: Config, stream: TextIO | None) -> None:
        super().__init__(reactor, end.fail)
        #: (part, why): ends a process that must not go on.
        self.abort: Callable[[str, str], None] = end.abort
        #: What takes another value while it runs.
        self.live = Live(config)
        self._format = config.log.format
        self._threshold = logs.threshold(config.log.level)
        self._stream = stream
        self.live.on(("log.level",), lambda changed: logs.change(self._threshold, changed.log.level))

    def setServiceParent(self, parent: IServiceCollection) -> None:
        if isinstance(parent, Componentized):
            logs.install(parent, self._format, self._threshold, self._stream)
        super().setServiceParent(parent)


def make_service(
    options: Options,
    reactor: Any,
    add_parts: Callable[[LoggedService, Config, Any], None],
    check: Callable[[Config], None] = unsupported,
) -> OrderedService:
    """Checks everything that can be wrong and binds the ports; nothing runs yet, because twistd may fork after this.

    `add_parts` raises ConfigError or Damaged; so does `check` for what a configuration must not become.
    """
    if reactor is None:
        from twisted.internet import reactor
    if FAULT in os.environ:
        # Only here: without it no such module is loaded and no method is wrapped.
        from imconnect.tap import faults

        with refused():
            faults.arm(os.environ[FAULT])
    config = options.configuration
    end = ProcessEnd(reactor)
    service = LoggedService(reactor, end, config, options.log_stream())
    watched = options.loaded.watched
    if watched is not None:
        # Late: without nacos.server_addr nothing of it is loaded.
        from imconnect.tap.following import Following

        service.add("configuration", Following(reactor, options.loaded, watched, check, service.live.take))
    with refused():
        add_parts(service, config, reactor)
    end.install(config.drain.deadline + AFTER_DRAIN)
    return service
