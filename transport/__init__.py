"""What both sides need to speak MQTT: ports, the driver, and the one adapter that imports paho."""
