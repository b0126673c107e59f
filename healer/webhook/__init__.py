"""
What comes in from Alertmanager or Grafana, and what is asked of Alertmanager's API.

Open endpoint.py first: it reads a webhook (payload.py) and hands each alert to the episode manager (the interface is
alert_handler.py), which decides by alert_filter.py; reconcile.py submits alerts that no webhook reported.
"""
