"""The one thing to do about a refused login, by the message of PostgreSQL, libpq or a pooler."""

import pytest

from pgslot.postgres.login_advice import login_advice

SERVER = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '

ADVICE = {
    f'{SERVER}FATAL:  password authentication failed for user "eyes"': 'sets it with: \\password "eyes"',
    f"{SERVER}FATAL: SASL authentication failed": "sets it with: \\password ROLE",
    f"{SERVER}fe_sendauth: no password supplied": "Give the conninfo a password",
    f'{SERVER}FATAL:  role "e\'s" does not exist': 'Create role "e\'s" on the primary',
    f'{SERVER}FATAL:  role "eyes" is not permitted to log in': 'On the primary: ALTER ROLE "eyes" LOGIN;',
    f'{SERVER}FATAL:  permission denied for database "app" DETAIL:  User does not have CONNECT privilege.': (
        'GRANT CONNECT ON DATABASE "app"'
    ),
    f'{SERVER}FATAL:  database "app" does not exist': "Name a database that exists in the conninfo's dbname",
    f'{SERVER}FATAL:  no pg_hba.conf entry for host "::1", user "eyes", database "app", no encryption': (
        'Add a line for host "::1", user "eyes" and database "app" to this server\'s pg_hba.conf'
    ),
    f'{SERVER}FATAL:  no pg_hba.conf entry for user "eyes", database "app"': "Add a line for host local",
    f'{SERVER}FATAL:  pg_hba.conf rejects connection for host "::1", user "eyes", database "app", no encryption': (
        "rejects the login"
    ),
    f'{SERVER}FATAL:  Peer authentication failed for user "eyes"': "scram-sha-256",
    f"{SERVER}FATAL:  no such user: eyes": "connection pooler's users",
    f"{SERVER}FATAL:  Passwort-Authentifizierung für Benutzer »x« fehlgeschlagen": "Compare role, password and dbname",
}


@pytest.mark.parametrize(("message", "advice"), ADVICE.items())
def test_advice_about_a_refused_login_names_the_thing_to_do(message: str, advice: str) -> None:
    assert advice in login_advice(message)
