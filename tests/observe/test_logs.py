"""Log lines as an operator gets them."""

from __future__ import annotations

import io
import json
import os
import sys
from datetime import datetime

from twisted.application.app import AppLogger
from twisted.application.service import Application
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher, globalLogBeginner
from twisted.python import log as legacy_log
from twisted.python.failure import Failure

from imconnect.observe.logs import change, install, json_line, observer, threshold
from tests.support import TestCase


class ObserverTests(TestCase):
    def lines(self, format, level, write):
        """What `write(logger)` leaves in the stream."""
        stream = io.StringIO()
        write(Logger("imconnect.test", observer=observer(format, level, stream)))
        return stream.getvalue().splitlines()

    def test_json_has_one_object_per_line(self):
        """Time, level, logger and message, whatever the message holds."""

        def write(line):
            line.info("node {name}\nis {what}", name="a", what="\u8d77")
            line.warn("second")

        first, second = map(json.loads, self.lines("json", "info", write))
        self.assertEqual((first["level"], first["logger"]), ("info", "imconnect.test"))
        self.assertEqual(first["message"], "node a\nis \u8d77")
        self.assertTrue(first["time"].endswith("Z"))
        self.assertEqual(datetime.fromisoformat(first["time"]).utcoffset().total_seconds(), 0)
        self.assertEqual((second["level"], second["message"]), ("warn", "second"))
        self.assertNotIn("failure", second)

    def test_json_carries_the_traceback(self):
        """A failure is in the same line as its message."""

        def write(line):
            try:
                raise KeyError("gone")
            except KeyError:
                line.failure("it broke")

        (line,) = map(json.loads, self.lines("json", "info", write))
        self.assertEqual((line["level"], line["message"]), ("critical", "it broke"))
        self.assertIn("KeyError: 'gone'", line["failure"])
        self.assertIn("test_logs.py", line["failure"])

    def test_levels_below_are_left_out(self):
        """Of the four lines two are at least a warning, in both formats."""

        def write(line):
            for level in ("debug", "info", "warn", "error"):
                line.emit(LogLevel.levelWithName(level), "a line")

        for format in ("json", "text"):
            self.assertEqual(len(self.lines(format, "warn", write)), 2)

    def test_text_names_the_logger_and_level(self):
        """Twisted's own text format."""
        (line,) = self.lines("text", "info", lambda line: line.info("started"))
        self.assertIn("[imconnect.test#info] started", line)

    def test_events_of_the_old_logging_system(self):
        """They have a logger and a level too."""
        stream = io.StringIO()
        target = observer("json", "info", stream)
        legacy_log.LogPublisher(observerPublisher=LogPublisher(), publishPublisher=target).msg("old")
        line = json.loads(stream.getvalue())
        self.assertEqual((line["message"], line["level"], line["logger"]), ("old", "info", "log_legacy"))

    def test_an_event_without_anything(self):
        """Still a line of JSON."""
        self.assertEqual(json.loads(json_line({})), {"time": None, "level": "info", "logger": "-", "message": ""})

    def test_a_traceback_that_cannot_be_shown(self):
        """The line comes without it and says so."""

        class Odd(Failure):
            def getTraceback(self, *args, **kwargs):
                raise ValueError

        try:
            raise KeyError
        except KeyError:
            line = json.loads(json_line({"log_failure": Odd()}))
        self.assertIn("ValueError", line["failure"])

    def test_unknown_format_or_level(self):
        """A ValueError that names what there is."""
        for format, level, named in (("xml", "info", "json"), ("text", "loud", "warn")):
            error = self.assertRaises(ValueError, observer, format, level, io.StringIO())
            self.assertIn(named, str(error))


class InstallTests(TestCase):
    def test_twistd_uses_it_from_its_first_line(self):
        """twistd's logger takes the component of the application, so its own start lines are JSON too."""
        application, stream = Application("imconnect"), io.StringIO()
        install(application, "json", "info", stream)
        began = []
        self.patch(globalLogBeginner, "beginLoggingTo", began.extend)
        AppLogger({}).start(application)
        self.assertEqual(began, [application.getComponent(ILogObserver)])
        began[0]({"log_format": "up", "log_level": LogLevel.info, "log_namespace": "twisted", "log_time": 0.0})
        self.assertEqual(json.loads(stream.getvalue())["time"], "1970-01-01T00:00:00.000Z")

    def test_another_level(self):
        """From the next line on; a level that is none is refused and changes nothing."""
        application, stream, lowest = Application("imconnect"), io.StringIO(), threshold("info")
        install(application, "json", lowest, stream)
        line = Logger("imconnect.test", observer=application.getComponent(ILogObserver))
        line.debug("one")
        change(lowest, "debug")
        line.debug("two")
        self.assertRaises(ValueError, change, lowest, "loud")
        change(lowest, "warn")
        line.info("three")
        self.assertEqual([json.loads(each)["message"] for each in stream.getvalue().splitlines()], ["two"])

    def test_the_stream_is_the_real_standard_output(self):
        """Not `sys.stdout`, which twistd replaces by the log itself."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as real:
            self.patch(sys, "__stdout__", real)
            self.patch(sys, "stdout", io.StringIO())
            application = Application("imconnect")
            install(application, "text", "info")
            Logger("here", observer=application.getComponent(ILogObserver)).info("a line")
            self.assertGreater(os.path.getsize(path), 0)
            self.assertEqual(sys.stdout.getvalue(), "")

    def test_no_standard_output(self):
        """A process without one is told, at once."""
        self.patch(sys, "__stdout__", None)
        self.assertRaises(ValueError, install, Application("imconnect"), "text", "info")
