"""Connects by what the configuration says: its connection string, with the password that its program prints."""

import time

from psycopg.conninfo import make_conninfo

from pgslot.config.conninfo import Conninfo
from pgslot.postgres.connect import LoginFailedError
from pgslot.postgres.passwords import fresh_seconds, passwords
from pgslot.postgres.session import Session


async def connection_string(conninfo: Conninfo, timeout: float, **parameters: str) -> str:
    """
    Return libpq's connection string with the password, and with these parameters.

    Raises ConfigError and TimeoutError, if there is none within `timeout` seconds.
    """
    text = conninfo.read()
    if conninfo.password is not None:
        parameters["password"] = (await passwords().get(conninfo.password, timeout)).text
    return make_conninfo(text, **parameters) if parameters else text


async def open_session(conninfo: Conninfo, *, application_name: str, timeout: float, **parameters: str) -> Session:
    """
    Connect within `timeout` seconds, the time for the password included.

    Raises what Session.connect() does, and ConfigError.
    """
    began = time.monotonic()
    if conninfo.password is None:
        text = await connection_string(conninfo, timeout, **parameters)
        return await Session.connect(text, application_name=application_name, timeout=timeout)
    password = await passwords().get(conninfo.password, timeout)
    text = make_conninfo(conninfo.read(), **parameters, password=password.text)
    left = max(0.1, timeout - (time.monotonic() - began))
    try:
        session = await Session.connect(text, application_name=application_name, timeout=left)
    except LoginFailedError:
        passwords().forget(conninfo.password)
        raise
    if conninfo.password.ttl is not None:
        session.renew_at = password.at + fresh_seconds(conninfo.password)
    return session
