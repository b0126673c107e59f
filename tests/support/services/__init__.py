"""
Imitations of managed services, made of a real PostgreSQL: refused functions and roles, each by its source.

They are not the services. What no source shows is as in PostgreSQL. Whoever has an account can correct a line here.
"""
