"""The routes of /api/v1, a module for each subject: each route one verb of ``manage``, no more."""

from xairouter.api.routes import accounts, me, owners, provider_keys, settings, usage

# Each as its module made it. FastAPI's ``include_router`` would build all of them once more, for every
# application and within its first request, for a fifth of a second in which no call goes on.
ROUTES = tuple(
    route
    for subject in (me, accounts, provider_keys, settings, usage, owners)
    for route in subject.router.routes
)
