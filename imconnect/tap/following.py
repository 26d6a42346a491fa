"""Follows the document that a part of the configuration came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from imconnect.backends.nacos import NacosDocument, md5_of
from imconnect.backends.threads import Pool
from imconnect.config import Config, Loaded
from imconnect.config.layers import Watched
from imconnect.config.nacos import address_of, keep_copy, named, of_no_use
from imconnect.core.background import Background, sleep
from imconnect.errors import ConfigError, Unavailable

_log = Logger()

#: Seconds between two attempts while Nacos is away, at first and at most.
AGAIN, SELDOM = 1.0, 30.0


class Following:
    """A part of the service tree. A new document is taken as a whole or not at all; a broken one changes nothing.

    `check` says what else this process cannot do (ConfigError); `take` gets every good configuration.
    """

    def __init__(
        self, reactor: Any, loaded: Loaded, watched: Watched, check: Callable[[Config], None], take: Callable[[Config], None]
    ) -> None:
        self._reactor = reactor
        self._notes: Sequence[str] = loaded.notes
        self._watched = watched
        self._check, self._take = check, take
        self._address = address_of(loaded.config.nacos)
        self._document = NacosDocument(self._address)
        self._pool = Pool(reactor, "nacos", 1)
        self._background = Background(reactor)
        self._ignored = set(watched.document.ignored)
        #: Of the last document, good or bad.
        self._md5 = md5_of(watched.document.text)
        #: Why the last attempt failed; empty if it did not.
        self.trouble = ""

    def start(self) -> None:
        for note in self._notes:
            _log.warn("{note}", note=note)
        _log.info("configuration: {name}, MD5 {md5}", name=self._watched.document.name, md5=self._md5)
        self._pool.start()
        self._background.run(self._follow(), "following Nacos")

    async def stop(self) -> None:
        await self._background.stop()
        # Not waited for: it may be in the middle of half a minute's wait, on a daemon thread.
        self._pool.stop()

    async def _follow(self) -> None:
        pause = AGAIN
        while True:
            try:
                text = await self._pool.run(self._document.newer, self._md5)
                if text is not None:
                    await self._arrived(text)
            except (Unavailable, ConfigError) as error:
                self._failed(str(error))
                pause = min(2 * pause, SELDOM)
            else:
                self._answered()
                pause = AGAIN
            # Also after an answer: a server that does not hold the question must not be asked without end.
            await sleep(self._reactor, pause)

    def _failed(self, why: str) -> None:
        if why != self.trouble:
            _log.warn("the configuration stays as it is: {why}", why=why)
        self.trouble = why

    def _answered(self) -> None:
        if self.trouble:
            _log.info("Nacos answers again")
        self.trouble = ""

    async def _arrived(self, text: str) -> None:
        if md5_of(text) == self._md5:
            return
        self._md5 = md5_of(text)
        try:
            document = named(text, self._address)
            config = self._watched.layers.loaded(document).config
            self._check(config)
        except ConfigError as error:
            _log.error("a new configuration is refused, the old one stays: {error}", error=" ".join(str(error).split()))
            return
        _log.info("configuration: {name}, MD5 {md5}", name=document.name, md5=self._md5)
        self._take(config)
        news = tuple(key for key in document.ignored if key not in self._ignored)
        self._ignored.update(news)
        notes = await self._pool.run(keep_copy, self._watched.copy, document, self._address)
        for note in notes + of_no_use(news, document):
            _log.warn("{note}", note=note)
