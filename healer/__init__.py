"""
The program pg-slot-healer: takes Alertmanager's webhooks, acts on slots that are stuck, and proves the effect.

Open `app.py` first: it connects the webhook, the episodes and their remedies to HTTP.
"""
