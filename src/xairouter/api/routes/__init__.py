"""The routes of /api/v1, a module for each subject: each route one verb of ``manage``, no more."""

from fastapi import APIRouter

from xairouter.api.routes import accounts, me, owners, provider_keys, settings, usage

router = APIRouter(prefix="/api/v1")
for subject in (me, accounts, provider_keys, settings, usage, owners):
    router.include_router(subject.router)
