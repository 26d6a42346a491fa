"""The migrations of a version that is not there yet."""

from __future__ import annotations

import shutil
from pathlib import Path

from imconnect.backends.sql.migrate import SCRIPTS
from tests.support import TestCase

_SECOND = """
from alembic import op
import sqlalchemy as sa
revision = "later"
down_revision = "{head}"

def upgrade():
    op.add_column("im_session", sa.Column("muted", sa.Integer, nullable=False, server_default="0"))
    {then}
"""


def later_scripts(case: TestCase, head: str, then: str = "pass") -> Path:
    """The scripts of this version and one more on top of its newest revision; `then` is a statement at its end."""
    scripts = Path(case.mktemp())
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "r_later.py").write_text(_SECOND.format(head=head, then=then))
    return scripts
