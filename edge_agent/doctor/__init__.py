"""`edge-agent doctor`: is everything on this device as an agent needs it, and if not, what is to be done?

`checkup.py` runs the checks in order, `device.py` and `broker.py` hold them, `findings.py` is what they say.
"""
