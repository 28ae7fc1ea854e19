"""The tasks behind ``%maas push``, ``pull`` and ``sync``."""

from __future__ import annotations

from maas_magics.api.errors import Refused
from maas_magics.api.requests import PullRequest, PushRequest, SyncRequest
from maas_magics.api.results import Copied
from maas_magics.core.context import Context
from maas_magics.core.store import copies


def push(request: PushRequest, context: Context) -> Copied:
    """Send a version to a place elsewhere."""
    _check(context)
    address, files = copies.push(context.store, request.model, request.url, context.check_stop)
    return Copied(pushed=(address,) if files else (), files=files, there=(address,))


def pull(request: PullRequest, context: Context) -> Copied:
    """Fetch a version from a place elsewhere."""
    _check(context)
    ref, files = copies.pull(context.store, request.url, request.name, context.check_stop)
    return Copied(pulled=(ref,) if files else (), files=files, here=(ref,))


def sync(request: SyncRequest, context: Context) -> Copied:
    """Send what is missing elsewhere, and fetch what is missing here, aliases among it."""
    _check(context)
    store, url = context.store, request.url.rstrip("/")
    theirs = copies.remote_versions(url)
    own = [(name, version) for name in store.storage.names() for version in store.storage.versions(name)]
    pushed, pulled, files = [], [], 0
    for name, version in own:
        address, sent = copies.push(store, f"{name}:{version}", url, context.check_stop)
        files += sent
        pushed += [address] if sent else []
    for name, number in theirs:
        ref, fetched = copies.pull(store, f"{url}/models/{name}/{number}", None, context.check_stop)
        files += fetched
        pulled += [ref] if fetched else []
    return Copied(pushed=tuple(pushed), pulled=tuple(pulled), files=files)


def _check(context: Context) -> None:
    """Raise `Refused` on a service: it has credentials of its own, and would send models where anyone says."""
    if context.served:
        raise Refused("A service copies no models to or from where its clients say.", "%connect local, and copy there.")
