"""Models, data and local training, shared by both sides; knows nothing of MQTT.

Importing this package alone loads neither torch nor NumPy; each module loads what it needs.
"""
