"""The rooms: a module for each, its pages and what their forms do, every one a verb of ``manage``.

A room asks, shows, and sends on; it decides nothing and touches no storage.
"""
