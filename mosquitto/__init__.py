"""The single source of broker configuration: templates, limits, a renderer and a private broker.

The demo, the tests and the Ansible role all configure Mosquitto from here. Nothing here speaks MQTT beyond the
one CONNECT with which a private broker is asked whether it is up.
"""
