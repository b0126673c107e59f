"""
What a person has to know of each slot now, worst first: pure functions of a cluster's snapshot and its diagnosis.

Start with slot_status.py for the rows and assessment.py for how they are made. advice.py says what to do about a row,
wording.py has the words for it, and explanation.py the paragraph about one slot.
"""
