"""`%connect`."""

from __future__ import annotations

from typing import Any

from maas_magics.magics import completions as offers
from maas_magics.magics.options import Command, MagicOption, text
from maas_magics.magics.shell import Magic

COMMAND = Command(
    "connect",
    "Choose where cells run: in this kernel, on a service of this machine, or on a colleague's.",
    (
        MagicOption(
            ("where",),
            "kernel, local, https://host:port, oip+https://host:port for any server of the Open Inference Protocol, or "
            "openai+https://host/v1 for any server of OpenAI's API",
            text,
            "WHERE",
            "?",
            offer=("kernel", "local"),
        ),
        MagicOption(
            ("--token-file",),
            "file with the token; else the variable MAAS_TOKEN, or the keyring",
            text,
            "FILE",
            offer=offers.files,
        ),
        MagicOption(
            ("--certificate",),
            "file with the certificate that the service is known by",
            text,
            "FILE",
            offer=offers.files,
        ),
        MagicOption(
            ("--require-signed",),
            "open models alone that a public key of this file has signed: kernel and local; none again: ''",
            text,
            "KEYS",
            offer=offers.files,
        ),
    ),
    example="%connect local\n%connect https://gpu.example.org:8000 --token-file ~/gpu.token\n"
    "%connect openai+http://127.0.0.1:8080/v1\n%connect kernel",
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Connect, and say where cells run now."""
    values = COMMAND.parse(line, magic.names)
    if values:
        magic.session.connect(
            values.get("where", "local"),
            token_file=values.get("token_file"),
            certificate=values.get("certificate"),
            require_signed=values.get("require_signed"),
        )
    magic.show(magic.session.where())
