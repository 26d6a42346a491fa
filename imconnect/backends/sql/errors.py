"""What a driver raises, in the words of the port. Nothing of a driver leaves the backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from imconnect.business.store import BadData, Conflict
from imconnect.errors import Unavailable


@contextmanager
def translated() -> Iterator[None]:
    """Raises Conflict, BadData or Unavailable for what a database says.

    The driver's text is kept only where it is about the connection: of a bad value it would quote the value.
    """
    try:
        yield
    except IntegrityError as error:
        raise Conflict(_brief(error)) from None
    except DataError as error:
        raise BadData(f"the database refuses a value ({_brief(error)})") from None
    except UnicodeEncodeError:
        raise BadData("a text is not valid Unicode") from None
    except OverflowError:
        raise BadData("a number is out of range") from None
    except DBAPIError as error:
        raise Unavailable(f"database: {_brief(error)}: {error.orig}") from error
    except SQLAlchemyError as error:
        raise Unavailable(f"database: {type(error).__name__}") from error


def _brief(error: DBAPIError) -> str:
    """The kind of error and, in MariaDB/MySQL, its number."""
    args = getattr(error.orig, "args", ())
    number = f" {args[0]}" if args and isinstance(args[0], int) else ""
    return f"{type(error.orig).__name__}{number}"
