"""The database that business keeps, through SQLAlchemy Core: SQLite and MariaDB/MySQL."""
