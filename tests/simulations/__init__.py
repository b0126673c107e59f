"""Long runs on real or model servers: a day, a year, a soak test, and the incident that the project began with."""
