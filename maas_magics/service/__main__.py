"""The command line: ``maas-magics serve`` runs a service, ``maas-magics token`` keeps its clients."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from maas_magics.api.errors import MaasError, OptionError
from maas_magics.api.place import default_place
from maas_magics.api.secrets import read_token
from maas_magics.api.sizes import kv_bytes
from maas_magics.local.limits import Limits
from maas_magics.service.app import create_app
from maas_magics.service.budget import give_back_at_once
from maas_magics.service.settings import LOOPBACK, Settings
from maas_magics.service.tokens import SCOPES, Token, TokenFile, Tokens, digest_of
from maas_magics.service.transport import configure

PORT = 8000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error of the user's ends with two lines and the code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["token"]:
            token(words[1:])
        else:
            serve(words[1:] if words[:1] == ["serve"] else words)
    except MaasError as error:
        print(f"{error.message}\n{error.hint}".strip(), file=sys.stderr)
        raise SystemExit(2) from None


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "maas-magics serve", description="Run a model service.", allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    add = made.add_argument
    add("--store", help="folder or URL of the models; MAAS_STORE, or the user's data folder", default=argparse.SUPPRESS)
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=PORT, help="port to listen on; 0 for any that is free")
    add("--token-file", type=Path, help="file with one token that may do everything", default=argparse.SUPPRESS)
    add("--tokens", type=Path, help="file of `maas-magics token`", default=argparse.SUPPRESS)
    add("--no-auth", action="store_true", help="require no token; on a loopback address only")
    add("--jobs", type=int, default=1, help="trainings at a time")
    add("--max-batch", type=int, default=Settings.max_batch, help="rows in one batch")
    add("--max-delay", type=float, default=0.0, help="milliseconds a request may wait for others")
    add("--max-generations", type=int, default=Settings.generations, help="answers in chunks at a time")
    add("--max-steps", type=int, default=Settings.max_steps, help="passes of one such answer; 0 for no limit")
    add(
        "--max-generation-seconds",
        type=float,
        default=Settings.generation_seconds,
        help="seconds of one such answer; 0 for no limit",
    )
    add("--memory", type=float, default=float("inf"), help="megabytes of weights kept open")
    add("--kv-memory", help="keys and values of each model that writes, as 512MB", default=argparse.SUPPRESS)
    add("--rate", type=float, default=0.0, help="requests a second of one token; 0 for no limit")
    add(
        "--tokens-per-minute",
        type=float,
        default=0.0,
        help="tokens of texts a minute of one token, of prompts and answers; 0 for no limit",
    )
    add("--body-limit", type=float, default=64.0, help="megabytes of one request's body")
    add(
        "--request-memory",
        type=float,
        default=Settings.request_memory / 2**20,
        help="megabytes that requests may hold at a time, with what is made of them and their answers",
    )
    add("--max-epochs", type=int, default=Limits.epochs, help="epochs of one training; 0 for no limit")
    add("--max-workers", type=int, default=Limits.workers, help="processes of one training; 0 for no limit")
    add("--max-threads", type=int, default=Limits.threads, help="CPU threads of one process; 0 for no limit")
    add("--max-upload", type=float, default=Limits.upload / 2**20, help="megabytes of one upload; 0 for no limit")
    add(
        "--max-uploads",
        type=float,
        default=Limits.uploads / 2**20,
        help="megabytes of all uploads on disk; 0 for no limit",
    )
    add(
        "--worker-memory",
        type=float,
        default=Limits.memory / 2**20,
        help="megabytes of address space of one worker process; 0 for no limit",
    )
    add("--worker-cpu", type=float, default=Limits.cpu / 3600, help="CPU hours of one worker process; 0 for no limit")
    add("--tls-cert", type=Path, help="certificate, PEM", default=argparse.SUPPRESS)
    add("--tls-key", type=Path, help="its private key, PEM", default=argparse.SUPPRESS)
    add(
        "--require-signed",
        metavar="KEYS",
        help="open models alone that one of these public keys has signed: a file, or a folder of files, in PEM",
        default=argparse.SUPPRESS,
    )
    add(
        "--harden",
        default="",
        metavar="HOW",
        help="what is kept of answers: round=2,top=1 for two digits, and the likeliest label's probability alone",
    )
    add("--allow-code", action="store_true", help="run modules that are sent as source")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another Host name to answer to, beside those of this machine; * for all",
    )
    add("--allow-origin", action="append", default=[], metavar="ORIGIN", help="origin of web pages that are allowed")
    add("--access-log", default="", metavar="FILE", help="file that gets a line of JSON for each request")
    add("--root-path", default="", help="prefix of the proxy in front, whether it is kept or not")
    add("--ready-file", type=Path, help=argparse.SUPPRESS, default=argparse.SUPPRESS)
    return made


def serve(words: Sequence[str]) -> None:
    """Run a service until a signal ends it.

    Raises
    ------
    MaasError
        For invalid options, or a token that cannot be read.
    """
    options = vars(_parser().parse_args(words))
    settings, limits = _settings(options), _limits(options)
    listener = _listen(options["host"], options["port"])
    cert, key = options.get("tls_cert"), options.get("tls_key")
    if (cert is None) != (key is None):
        raise OptionError("TLS takes a certificate and its key.", "--tls-cert cert.pem --tls-key key.pem")
    for file in (cert, key):
        if file is not None and not file.is_file():
            raise OptionError(f"There is no file {str(file)!r}.")
    from maas_magics.local.pool import ServiceBackend

    give_back_at_once()
    os.umask(0o077)  # what a service writes is its owner's alone
    backend = ServiceBackend(
        options.get("store") or default_place(),
        jobs=max(1, options["jobs"]),
        memory=options["memory"] * 2**20,
        allow_code=options["allow_code"],
        limits=limits,
        kv_memory=kv_bytes(options["kv_memory"]) if "kv_memory" in options else None,
        require_signed=options.get("require_signed", ""),
        harden=options["harden"],
    )
    host, port = listener.getsockname()[:2]
    url = f"{'https' if cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    config = configure(
        create_app(backend, settings),
        root_path=options["root_path"].rstrip("/"),
        ssl_certfile=cert,
        ssl_keyfile=key,
    )
    _Server(
        config, url, options.get("ready_file"), backend.close, limits.told(), options.get("require_signed", "")
    ).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Writes its address once it is ready, and takes that back when it ends."""

    def __init__(
        self, config: uvicorn.Config, url: str, ready: Path | None, close: Callable[[], None], told: str, signed: str
    ) -> None:
        super().__init__(config)
        self._signed = signed
        self._close = close
        self._url = url
        self._ready = ready
        self._told = told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None:
            growing = self._ready.with_suffix(f".{os.getpid()}")
            handle = os.open(growing, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(msgspec.json.encode({"url": self._url, "pid": os.getpid(), "require_signed": self._signed}))
            os.replace(growing, self._ready)
        print(f"Serving at {self._url}", flush=True)
        print(self._told, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._ready is not None:
            self._ready.unlink(missing_ok=True)
        # Here, for uvicorn raises the signal that ended it once more, and that ends the process.
        closing = asyncio.create_task(asyncio.to_thread(self._close))
        await super().shutdown(sockets)
        await closing


def _settings(options: dict[str, Any]) -> Settings:
    host = options["host"]
    own = []
    if "token_file" in options:
        own.append(Token("owner", digest_of(read_token(options["token_file"]).encode()), SCOPES))
    tokens = Tokens(options.get("tokens"), own)
    known = bool(own) or bool("tokens" in options and TokenFile(options["tokens"]).read())
    if not known and not (_loopback(host) and options["no_auth"]):
        raise OptionError(
            "A service needs a token." if _loopback(host) else f"A service that listens on {host} needs a token.",
            "maas-magics token add NAME --tokens FILE, then --tokens FILE"
            + (" (or --no-auth, on this machine only)" if _loopback(host) else ""),
        )
    elsewhere = not _loopback(host)
    names = {host, *options["allow_host"], *LOOPBACK, *(own_names() if elsewhere else ())}
    return Settings(
        tokens=tokens if known else None,
        hosts=frozenset(names),
        addresses=elsewhere,
        origins=frozenset(options["allow_origin"]),
        rate=options["rate"],
        tokens_per_minute=max(0.0, options["tokens_per_minute"]),
        body_limit=int(options["body_limit"] * 2**20),
        request_memory=int(options["request_memory"] * 2**20),
        max_batch=max(1, options["max_batch"]),
        max_delay=options["max_delay"] / 1000,
        generations=max(0, options["max_generations"]),
        max_steps=max(0, options["max_steps"]),
        generation_seconds=max(0.0, options["max_generation_seconds"]),
        access_log=options["access_log"],
    )


def own_names() -> set[str]:
    """Names by which this machine goes."""
    name = socket.gethostname()
    short = name.partition(".")[0]
    return {found.lower() for found in (name, short, f"{short}.local", socket.getfqdn()) if found}


def _limits(options: dict[str, Any]) -> Limits:
    """Bounds of the service's jobs.

    Raises
    ------
    OptionError
        If one is below zero, or no number.
    """
    for name in (
        "max_epochs",
        "max_workers",
        "max_threads",
        "max_upload",
        "max_uploads",
        "worker_memory",
        "worker_cpu",
    ):
        if not 0 <= options[name] < float("inf"):
            raise OptionError(
                f"--{name.replace('_', '-')} is {options[name]:g}; 0 or more was expected.", "0 means no limit."
            )
    return Limits(
        epochs=options["max_epochs"],
        workers=options["max_workers"],
        threads=options["max_threads"],
        upload=options["max_upload"] * 2**20,
        uploads=options["max_uploads"] * 2**20,
        memory=options["worker_memory"] * 2**20,
        cpu=options["worker_cpu"] * 3600,
    )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises
    ------
    OptionError
        If the address is taken, or not of this machine.
    """
    if not 0 <= port <= 65_535:
        raise OptionError(f"Cannot listen on port {port}: there are 0 to 65,535.", "--port 0 takes one that is free.")
    try:
        kind = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(kind[0], kind[1])
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(kind[4])
        listener.listen(2048)
    except OSError as error:
        raise OptionError(f"Cannot listen on {host}:{port}: {error}.", "--port 0 takes one that is free.") from None
    return listener


def token(words: Sequence[str]) -> None:
    """Add, list and remove clients' tokens."""
    parser = argparse.ArgumentParser("maas-magics token", description="Keep a service's clients.", allow_abbrev=False)
    parser.add_argument("act", choices=("add", "list", "remove"))
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--tokens", type=Path, required=True, help="file of clients; holds digests only")
    parser.add_argument("--scopes", default=",".join(SCOPES), help="of predict, train, admin")
    parser.add_argument("--tokens-per-minute", type=int, default=0, help="of texts; 0 for the service's own limit")
    parser.add_argument("--priority", choices=("interactive", "batch"), default="interactive", help="of its answers")
    options = parser.parse_args(words)
    file = TokenFile(options.tokens)
    if options.act == "list":
        for known in file.read():
            limit = f" · {known.tokens_per_minute:,} tokens a minute" if known.tokens_per_minute else ""
            print(f"{known.name}: {', '.join(known.scopes)}{limit}{' · batch' if known.priority == 'batch' else ''}")
        return
    if not options.name:
        raise OptionError(f"token {options.act} needs a name.", f"maas-magics token {options.act} NAME --tokens FILE")
    if options.act == "add":
        scopes = [scope.strip() for scope in options.scopes.split(",")]
        print(file.add(options.name, scopes, options.tokens_per_minute, options.priority))
    else:
        file.remove(options.name)


if __name__ == "__main__":
    main()
