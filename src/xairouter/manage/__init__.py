"""Every verb that an owner, a manager, a member or the operator can do.

Open ``desk.py`` first: authorise, act, record, in one transaction. ``permissions.py`` is the table
of who may do what; the other files hold the verbs, one file per kind of thing. The gateway never
enters here.
"""
