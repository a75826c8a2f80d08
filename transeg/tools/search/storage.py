"""Where a study is kept: a SQLite file in the search's folder, or a database server."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from transeg.core.errors import TransegError, UsageError
from transeg.core.optional_packages import require

DRIVERS = {
    "postgresql": ("postgresql+psycopg", "psycopg"),
    "postgres": ("postgresql+psycopg", "psycopg"),
    "mysql": ("mysql+pymysql", "pymysql"),
    "mariadb": ("mariadb+pymysql", "pymysql"),
}
"""What SQLAlchemy calls a server with the driver that the extra `search` installs, and that driver's package."""

HEARTBEAT = 10
"""Seconds between two signs of life of a trial."""
GRACE = 30
"""Seconds without one after which its worker counts as dead."""
RETRIES = 3
"""How often a trial is begun again whose worker died; one that always dies takes its worker along."""
DEATHS = "deaths"
"""A trial's attribute: how many of its workers have died."""
DATABASE_ERRORS = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
"""What Optuna raises where the database is at fault."""
ATTEMPTS = 5
"""How often tables are looked for that another worker may just be making."""


def storage_url(storage: str, folder: Path) -> URL:
    """The address of a database, with its driver.

    Args:
        storage: as the user says it; '' for a file in the folder.
        folder: of the search.

    Raises:
        UsageError: it is not such an address, or its driver is not installed.
    """
    if not storage:
        return URL.create("sqlite", database=str(folder.resolve() / "study.db"))
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            "The storage is not the address of a database; say --storage postgresql://USER@HOST/DATABASE, mysql://..., "
            "or sqlite:////PATH."
        ) from error
    if url.drivername in DRIVERS:
        name, package = DRIVERS[url.drivername]
        require(package, "search", f"A study in {url.drivername}")
        url = url.set(drivername=name)
    return url


def redact_url(url: URL) -> str:
    """An address without its password, wherever that stands."""
    kept = {key: value for key, value in url.query.items() if "pass" not in key.lower()}
    plain: URL = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, kept)
    return plain.render_as_string(hide_password=False)


def open_storage(url: URL) -> RDBStorage:
    """The database, with signs of life of running trials, and another try for those whose worker has died.

    Raises:
        UsageError: it cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # the toolkit reports in its own words
    arguments: dict[str, object] = (
        {"connect_args": {"timeout": 60}} if url.drivername == "sqlite" else {"pool_pre_ping": True}
    )
    with database_errors(url):
        for attempt in range(ATTEMPTS):
            try:
                return _storage(url, arguments)
            except DBAPIError as error:
                if attempt == ATTEMPTS - 1 or not _made_by_another(error):
                    raise
                time.sleep(0.2 * (attempt + 1))
    raise AssertionError


def retry_callback() -> RetryHeartbeatStaleTrialCallback:
    """What queues an interrupted trial again, as often as it takes."""
    with silence_optuna():
        return RetryHeartbeatStaleTrialCallback(max_retry=None, inherit_intermediate_values=True)


@contextmanager
def silence_optuna() -> Iterator[None]:
    """Without Optuna's remarks on what it calls experimental; they are nothing that a user can mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@contextmanager
def database_errors(url: URL) -> Iterator[None]:
    """Say what is wrong with a database in a sentence.

    Raises:
        UsageError: it cannot be used.
        TransegError: it could be, but no more.
    """
    where = redact_url(url)
    try:
        yield
    except NoSuchModuleError as error:
        raise UsageError(f"There is no driver for {where}; say postgresql://, mysql:// or sqlite:///.") from error
    except ImportError as error:
        raise UsageError(f"The driver that {where} needs is not installed.") from error
    except DATABASE_ERRORS as error:
        reason = _reason(error, url)
        raise TransegError(f"The database {where} cannot be used: {reason}.") from error
    except RuntimeError as error:
        if "version" not in str(error):
            raise
        raise UsageError(f"The database {where} was made by another version of Optuna: {error}") from error


class _Storage(RDBStorage):
    """Goes on after a sign of life that it could not take down; Optuna would give no other until the trial ends."""

    def record_heartbeat(self, trial_id: int) -> None:
        with suppress(*DATABASE_ERRORS):
            super().record_heartbeat(trial_id)


def _storage(url: URL, arguments: dict[str, object]) -> RDBStorage:
    with silence_optuna():
        return _Storage(
            url.render_as_string(hide_password=False),
            engine_kwargs=arguments,
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=_retry_dead,
        )


def _retry_dead(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial again whose worker has died, unless that was once too often; interruptions are no deaths."""
    deaths = trial.user_attrs.get(DEATHS, 0) + 1
    if deaths <= RETRIES:
        trial.user_attrs[DEATHS] = deaths  # of a copy, whose attributes the next one gets
        retry_callback()(study, trial)


def _made_by_another(error: SQLAlchemyError) -> bool:
    """Whether two workers have made the tables of a new database at the same time."""
    text = str(error).lower()
    return "already exists" in text or "duplicate" in text or "unique" in text


def _reason(error: Exception, url: URL) -> str:
    """The first line of what the database says, without the password, should that be in it."""
    cause = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
    said = cause.args[-1] if cause.args else ""  # MySQL's have a number first
    line = next((line for line in str(said).splitlines() if line.strip()), type(error).__name__)
    return (line.replace(str(url.password), "***") if url.password else line).strip().rstrip(".")
