"""
What comes in from Alertmanager or Grafana, and what is asked of Alertmanager's API.

Open endpoint.py first: it reads a webhook (body.py) and hands each alert to the episode manager (the interface is
handler.py), which decides by filter.py; reconcile.py submits alerts that no webhook reported.
"""
