"""`imconnect chat`: talk to somebody from a terminal, or from a script."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click
from twisted.internet.defer import Deferred

from imconnect.cli.chat_lines import gateway_url, user_id
from imconnect.cli.chat_plain import PlainScreen, PlainTalk, read_lines
from imconnect.cli.conversation import Conversation
from imconnect.client import Backoff, Client, ClientError


def _user(ctx: click.Context, param: click.Parameter, value: str | None) -> int:
    try:
        return user_id(value) if value is not None else 0
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        return gateway_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command()
@click.argument("url", callback=_url)
@click.argument("user", callback=_user)
@click.option("--to", "peer", metavar="USER", callback=_user, help="Whom to talk to; /to USER changes it.")
@click.option("--device", default="", help="Name of this device; signing in again with it replaces the older one.")
@click.option("--token", default="", envvar="IMCONNECT_TOKEN", help="For gateways that want one (auth.mode jwt).")
@click.option("--wait", default=10.0, show_default=True, type=click.FloatRange(0.1, 3600),
              help="Without a terminal: seconds for the sign-in and for the last answers.")  # fmt: skip
def chat(url: str, user: int, peer: int, device: str, token: str, wait: float) -> None:
    """Sign in at the gateway URL as USER and talk.

    Without a terminal every line of standard input is sent and what comes is printed; at the end of the input it leaves
    as soon as everything was answered, with status 0 if all of it was sent:

        printf 'hi\\n' | imconnect chat ws://127.0.0.1:10001/websocket 1001 --to 1002
    """
    # prompt_toolkit runs on asyncio only. With its loop as the reactor, prompt and connection share one thread: a
    # prompt on a thread of its own could neither be ended from here nor redrawn without locks. It must be installed
    # before anything imports the global reactor; nothing of ours does.
    from twisted.internet import asyncioreactor

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)
    from twisted.internet import reactor
    from twisted.internet.task import react

    headers = {"token": token} if token else {}
    try:
        # Somebody is looking at the screen: he is not left waiting for half a minute.
        client = Client(
            reactor, url, user, device=device, headers=headers, auto_ack=False, retry_unavailable=True,
            backoff=Backoff(longest=8),
        )  # fmt: skip
    except ClientError as error:
        raise click.ClickException(str(error)) from None

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    begin = _on_terminal if terminal else _in_a_pipe

    def main(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(_exit_with(begin(reactor, client, peer, url, wait)))

    react(main)


async def _exit_with(talk: Coroutine[Any, Any, int]) -> None:
    raise SystemExit(await talk)


async def _in_a_pipe(reactor: Any, client: Client, peer: int, url: str, wait: float) -> int:
    conversation = Conversation(client, PlainScreen(sys.stdout, sys.stderr), peer)
    talk = PlainTalk(reactor, client, conversation, url, wait)
    read_lines(reactor, sys.stdin.fileno(), talk)
    status = Deferred.fromCoroutine(talk.run(_complain))
    _at_shutdown(reactor, talk.interrupt, status)
    return await status


async def _on_terminal(reactor: Any, client: Client, peer: int, url: str, wait: float) -> int:
    # Late: scripts need no terminal library.
    from imconnect.cli.chat_terminal import TerminalScreen, TerminalTalk

    screen = TerminalScreen()
    talk = TerminalTalk(client, Conversation(client, screen, peer), screen)
    reason = Deferred.fromFuture(asyncio.ensure_future(talk.run()))
    _at_shutdown(reactor, talk.interrupt, reason)
    why = await reason
    if why:
        _complain(why)
    return 1 if why else 0


def _at_shutdown(reactor: Any, interrupt: Callable[[], object], done: Deferred[Any]) -> None:
    """On a signal leave as after the last line: the terminal gets its modes back, the gateway a goodbye."""
    over: Deferred[None] = Deferred()

    def pass_on(result: Any) -> Any:
        over.callback(None)
        return result

    def shut_down() -> Deferred[None]:
        interrupt()
        return over

    done.addBoth(pass_on)
    reactor.addSystemEventTrigger("before", "shutdown", shut_down)


def _complain(reason: str) -> None:
    click.echo(f"imconnect chat: {reason}", err=True)
