"""Where requests run: in this kernel, on this machine's service, or on a server somewhere."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maas_magics.api.backend import Backend
from maas_magics.api.errors import MaasError, OptionError
from maas_magics.api.place import default_place
from maas_magics.api.sizes import kv_bytes
from maas_magics.endpoint import Endpoint

PROTOCOLS = ("oip", "openai")
"""What stands before the address of a server of another make, with a plus sign."""


class Connection:
    """The one place that names backends; each is imported when it is requested.

    Parameters
    ----------
    store : str, optional
        Folder or URL of the local store; the default one when None.
    """

    def __init__(self, store: str | None = None) -> None:
        self._store = store
        self._backend: Backend | None = None
        self._remote = False
        self._here = False
        self._token = ""
        self._lock = threading.Lock()

    @property
    def store(self) -> str:
        """Folder or URL of the local store."""
        return self._store or default_place()

    @property
    def backend(self) -> Backend:
        """Where requests run; the local one is made on first use."""
        with self._lock:
            if self._backend is None:
                from maas_magics.local.backend import LocalBackend

                self._backend = LocalBackend(self.store)
            return self._backend

    @property
    def remote(self) -> bool:
        """Whether requests run outside this kernel."""
        return self._remote

    @property
    def at_home(self) -> bool:
        """Whether models are kept in the local store: this kernel and this machine's service share it."""
        return self._here or not self._remote

    def connect(
        self,
        where: str,
        *,
        token_file: str | None = None,
        certificate: str | None = None,
        require_signed: str | None = None,
    ) -> None:
        """Choose where requests run.

        Parameters
        ----------
        where : str
            ``"kernel"``, ``"local"`` for this machine's service, the address of a service, or the address of any
            server of the Open Inference Protocol with ``oip+``, or of OpenAI's API with ``openai+`` before it.
        token_file, certificate : str, optional
            File with the token for it, and with the certificate that it is known by.
        require_signed : str, optional
            Of ``"kernel"`` and ``"local"``: file of public keys in PEM, or a folder of such files; only models that one
            of them signed are opened there from here on. Of the kernel, empty for any again.

        Raises
        ------
        MaasError
            If it cannot be reached, or does not take the token; requests run where they ran before.
        """
        made: Backend | None
        token = ""
        if require_signed is not None and where not in ("kernel", "local"):
            raise OptionError(
                "What a service elsewhere opens is its owner's to say.",
                "maas-magics serve --require-signed KEYS, there.",
            )
        if where == "kernel":
            made = None
            if require_signed is not None:
                from maas_magics.core.seal import signatures

                signatures.require_signed(require_signed)
        elif where == "local":
            made, token = self._local_service(require_signed or "")
        else:
            from maas_magics.remote.connect import check_url, token_for

            token = token_file or "$MAAS_TOKEN"
            protocol = next((name for name in PROTOCOLS if where.startswith(f"{name}+")), "")
            url = check_url(where.removeprefix(f"{protocol}+"))
            made = _reach(url, token_for(url, token_file), certificate, protocol)
        with self._lock:
            # The backend before stays open: jobs of it may be watched still.
            self._backend, self._remote, self._token = made, made is not None, token
            self._here = where == "local"

    def _local_service(self, require_signed: str = "") -> tuple[Backend, str]:
        """Service of this machine, and the file with its token."""
        from maas_magics.api.secrets import read_token
        from maas_magics.core.store.storage import open_storage
        from maas_magics.remote.connect import is_meant, start_local, token_file

        work = open_storage(self.store)[1]
        if require_signed:
            from maas_magics.core.seal.signatures import public_keys

            public_keys(Path(require_signed).expanduser())
        keys = str(Path(require_signed).expanduser().absolute()) if require_signed else ""
        running = start_local(self.store, work, keys)
        file = token_file(work)
        url = running.url
        awaited = lambda: is_meant(work, url)  # noqa: E731
        return _reach(url, lambda: read_token(file), None, awaited=awaited), str(file)

    def where(self) -> str:
        """Where requests run, for display."""
        if not self._remote:
            return "Cells run in this kernel."
        return f"Cells run on {self.backend.place}."

    def serve(self, ref: str, kv_memory: str | None = None) -> Endpoint:
        """Put a model of the local store behind this machine's service.

        Parameters
        ----------
        ref : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        kv_memory : str, optional
            What the keys and values of a model that writes may take, as ``"512MB"``.
        """
        from pathlib import Path

        memory = None if kv_memory is None else kv_bytes(kv_memory)
        if not self._remote:
            self.backend.models.get(ref)  # no service is started for a model that is not there
        backend, token = (self.backend, self._token) if self._remote else self._local_service()
        info = backend.models.get(ref)
        backend.load(ref, memory)
        if token and not token.startswith("$"):
            with contextlib.suppress(ValueError):
                token = "~/" + Path(token).expanduser().relative_to(Path.home()).as_posix()
        name = info.ref if ":" in ref or "@" in ref else info.name
        if "@" in ref and (variant := backend.models.record(ref).variant):
            name = f"{info.ref}@{variant}"  # not an alias, which names a version
        asked = [spec.datatype for spec in info.signature.inputs]
        steps = info.iterative and asked == ["BYTES"]  # a text that is continued, or drawn
        return Endpoint(model=name, url=backend.place, token=token, signature=info.signature, iterative=steps)

    def served(self) -> set[str]:
        """Versions that are open on the service that is connected, or on this machine's service of the store."""
        from maas_magics.core.store.storage import open_storage
        from maas_magics.remote.connect import find_local

        backend = self.backend
        if not self._remote:
            if find_local(open_storage(self.store)[1]) is None:
                return set()
            backend = self._local_service()[0]
        return {ref for ref, is_open in backend.loaded().items() if is_open}

    def stop_serving(self, ref: str | None) -> str:
        """Close one model, or stop this machine's service; says what was done.

        Parameters
        ----------
        ref : str or None
            The model to close; the whole service of this machine when None.
        """
        from maas_magics.core.store.storage import open_storage
        from maas_magics.remote.connect import find_local, stop_local

        work = open_storage(self.store)[1]
        if ref is not None:
            if self._remote:
                self.backend.unload(ref)
            elif find_local(work) is not None:
                self._local_service()[0].unload(ref)
            return f"{ref} is closed."
        running = find_local(work)
        if running is None or not stop_local(work):
            return "No service of this store runs on this machine."
        if not self._remote or self.backend.place != running.url:
            return "The service has stopped."
        self.connect("kernel")
        return "The service has stopped. Cells run in this kernel again; %connect local starts the service anew."

    def local_service(self) -> tuple[str, dict[str, bool]] | None:
        """Address of this machine's service of the local store, with the models that are open (True) or closed there.

        None if there is none, or cells run there themselves; none is started.
        """
        from maas_magics.core.store.storage import open_storage
        from maas_magics.remote.connect import find_local

        if self._here or find_local(open_storage(self.store)[1]) is None:
            return None
        service = self._local_service()[0]
        return service.place, dict(service.loaded())

    def model_names(self) -> list[str]:
        """Names of the models, without loading what runs them."""
        if self._remote:
            return [info.name for info in self.backend.models.list()]
        from maas_magics.core.store.storage import open_storage

        return open_storage(self.store)[0].names()

    def version_names(self, name: str) -> list[str]:
        """Numbers and aliases of a model's versions; none where there is no such model.

        Parameters
        ----------
        name : str
            Name of a model, without version or alias.
        """
        try:
            found = self.backend.models.versions(name)
        except MaasError:
            return []
        return [*(str(info.version) for info in found), *(alias for info in found for alias in info.aliases)]

    def columns_of(self, data: Any, csv: str | None = None) -> list[str]:
        """Names of the columns of files; none for anything else, or where they cannot be read.

        Parameters
        ----------
        data : Any
            A path, a URL, a pattern or a list of them; anything else has no columns here.
        csv : str, optional
            How CSV files are written: ``"sep=; decimal=, encoding=latin-1 missing=NA"``.
        """
        from maas_magics.core.data.sources import is_files, open_source

        try:
            return list(open_source(data, csv).schema.names) if is_files(data) else []  # type: ignore[attr-defined]
        except MaasError:
            return []

    def lost_with(self, ref: str) -> str:
        """Reasons to confirm the removal of a version or a model; empty where there are none.

        Parameters
        ----------
        ref : str
            ``NAME``, or ``NAME:3`` or ``NAME@alias`` for one version.
        """
        info = self.backend.models.get(ref)
        found = self.backend.models.versions(info.name) if ref == info.name else [info]
        used = [f"{one.name}@{alias}" for one in found for alias in one.aliases]
        open_ones = self.served()
        used += [f"{one.ref} on a service" for one in found if one.ref in open_ones]
        several = f"{info.name} has {len(found)} versions" if len(found) > 1 else ""
        asked = f"{', '.join(used)} {'is' if len(used) == 1 else 'are'} in use" if used else ""
        return ", and ".join(filter(None, (several, asked))) + "." if several or asked else ""


def _reach(
    url: str,
    token: Callable[[], str],
    certificate: str | None,
    protocol: str = "",
    awaited: Callable[[], bool] = lambda: True,
) -> Backend:
    """A backend that has answered, and takes the token."""
    from maas_magics.remote.client import Client

    if protocol == "openai":
        from maas_magics.remote.openai import with_path

        url = with_path(url)
    client = Client(url, token, certificate, awaited)
    try:
        if protocol == "oip":
            from maas_magics.remote.inference import InferenceBackend

            return InferenceBackend(client)
        if protocol == "openai":
            from maas_magics.remote.openai import OpenAIBackend

            return OpenAIBackend(client)
        from maas_magics.remote.backend import RemoteBackend

        backend = RemoteBackend(client)
        backend.check()
        return backend
    except BaseException:
        client.close()
        raise
