"""
Transactions that may hold a slot, the healer that may end them, and a judge that knows which of them does.

`primary.py` models a primary: WAL, running-xacts records, transactions, slots. `judge.py` holds what must be true of
every session that the healer ends, and of every `healed` that it claims. The incidents are part of the year
(tests/simulations/year); here they also run alone.
"""
