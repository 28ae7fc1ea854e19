"""`%maas`: everything around models and jobs, and every other magic as a subcommand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.api.events import (
    FINAL_STATES,
    EpochEnd,
    Event,
    Finished,
    Message,
    Paused,
    Progress,
    Resumed,
    Started,
)
from maas_magics.api.hints import meant
from maas_magics.api.requests import ImportRequest
from maas_magics.api.search import SearchRequest
from maas_magics.api.sweep import is_sweep
from maas_magics.api.tables import format_number, html_table, text_table
from maas_magics.api.verbs import VERBS
from maas_magics.magics import chat, connect, predict, serve, train
from maas_magics.magics import completions as offers
from maas_magics.magics.common import MODEL
from maas_magics.magics.declared import options_of
from maas_magics.magics.options import Command, HelpAsked, MagicOption, text
from maas_magics.magics.shell import Magic
from maas_magics.magics.verbs import VerbMagic, brought_magics, rows_of
from maas_magics.magics.words import Names, uncommented

NEWEST = 50
"""Jobs that are listed at most, besides those that continue and the sweeps."""


Run = Callable[[Magic, dict[str, Any]], Any]


def _id(names: Names, word: str) -> str:
    """Id of a job or name of a model: as it stands, or of the job that a variable holds."""
    found = getattr(names.held(word), "info", None)
    return str(getattr(found, "id", word))


ID = MagicOption(
    ("id",),
    "job: its id or four characters of it or more, the model it trains, or a variable that holds it; the newest "
    "if left out",
    _id,
    "JOB",
    "?",
    offer=offers.jobs,
)
WAIT = MagicOption(("--wait", "-w"), "wait until it has ended", switch=True)
YES = MagicOption(("--yes", "-y"), "remove what is more than one version, or in use", switch=True)


KEPT_BACK = {"harden": "hardened by", "rate": "requests a second", "tokens_per_minute": "tokens a minute"}
"""What is said of the limits of a service; those that are counted are of each token."""


def _table(magic: Magic, rows: Sequence[Sequence[str]], head: Sequence[str], empty: str) -> None:
    if not rows:
        magic.show(empty)
        return
    magic.show(text_table(rows, head), html_table(rows, head=head))


def _status(magic: Magic, values: dict[str, Any]) -> None:
    backend = magic.session.backend
    jobs = magic.session.jobs()
    going = [info for info in jobs if info.state not in FINAL_STATES]
    rows = [
        ("runs on", backend.place) if magic.session.remote else ("runs in", "this kernel"),
        *([] if magic.session.remote else [("store", backend.place)]),
        ("models", str(len(magic.session.model_names()))),
        ("jobs", f"{len(going)} active, {len(jobs) - len(going)} ended"),
        *((f"job {info.id}", f"{info.title}: {info.state}") for info in going),
        *_traffic(backend.traffic()),
        *((KEPT_BACK.get(name, name), str(value)) for name, value in backend.kept_back().items()),
        *_loaded(backend.loaded()),
        *_service(magic),
    ]
    _table(magic, rows, (), "")


def _loaded(models: Mapping[str, bool]) -> list[tuple[str, str]]:
    return [(f"model {ref}", "open" if is_open else "closed") for ref, is_open in models.items()]


def _service(magic: Magic) -> list[tuple[str, str]]:
    """What `%serve` started, and what it answers for, where the cells run elsewhere."""
    found = magic.session.local_service()
    if found is None:
        return []
    place, models = found
    return [("service", f"{place}; %serve --stop ends it"), *((f"{row[0]} served", row[1]) for row in _loaded(models))]


def _traffic(told: Mapping[str, float]) -> list[tuple[str, str]]:
    if not told:
        return []
    asked = f"{told['requests']:,.0f} requests, {told['rows']:,.0f} rows"
    return [
        ("answered", asked + (f", {format_number(told['milliseconds'])} ms each" if told["requests"] else "")),
        ("waiting", f"{told['waiting']:,.0f} requests"),
    ]


def _models(magic: Magic, values: dict[str, Any]) -> None:
    store = magic.session.backend.models
    found = store.versions(values["name"]) if "name" in values else store.list()
    rows = [
        (
            info.ref,
            info.task,
            info.architecture,
            ", ".join(info.target),
            ", ".join(f"{name} {format_number(value)}" for name, value in list(info.metrics.items())[:3]),
            ", ".join(info.exports),
            ", ".join(info.aliases),
            _when(info.created) if info.created else "",
        )
        for info in found
    ]
    head = ("model", "task", "architecture", "target", "validation", "exports", "aliases", "trained")
    _table(magic, rows, head, "There is no model yet: %train NAME --data df --target column")


def _jobs(magic: Magic, values: dict[str, Any]) -> None:
    # Neither what continues nor a sweep is lost behind the many trials of one.
    found = [
        info
        for place, info in enumerate(magic.session.jobs())
        if place < NEWEST or info.state not in FINAL_STATES or info.title.startswith(("sweep ", "race "))
    ]
    rows = [(info.id, info.title, info.state, _when(info.created)) for info in found]
    _table(magic, rows, ("job", "", "state", "since"), "There is no job yet.")


def _job(magic: Magic, values: dict[str, Any], *, going: bool = False) -> Any:
    return magic.session.job_of(values.get("id"), going=going)


def _attach(magic: Magic, values: dict[str, Any]) -> Any:
    return magic.session.attach(_job(magic, values).info.id, wait=values.get("wait", False))


def _stop(magic: Magic, values: dict[str, Any]) -> None:
    job = _job(magic, values, going=True)
    if job.info.state in FINAL_STATES:
        magic.show(f"The job {job.info.id} has ended already: {job.info.state}.")
        return
    job.stop()
    kept = (
        "the current trial is dropped, the best of the others published"
        if is_sweep(job)
        else "its best checkpoint is kept"
    )
    magic.show(f"Stopping {job.info.title} ({job.info.id}); {kept}.")


def _pause(magic: Magic, values: dict[str, Any]) -> None:
    job = _job(magic, values, going=True)
    job.pause()
    magic.show(f"Pausing {job.info.title} ({job.info.id}); %maas resume {job.info.id} continues.")


def _resume(magic: Magic, values: dict[str, Any]) -> Any:
    job = _job(magic, values, going=True)
    job.resume()
    return magic.session.attach(job.info.id, wait=values.get("wait", False))


def _logs(magic: Magic, values: dict[str, Any]) -> None:
    lines = [line for event in _job(magic, values).events(follow=False) if (line := _line(event))]
    magic.show("\n".join(lines) or "Nothing yet.")


def _line(event: Event) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(event.time))
    match event:
        case Started():
            summary = ", ".join(f"{name} {value}" for name, value in event.summary.items())
            return f"{clock}  started {event.title}: {summary}"
        case EpochEnd():
            figures = {**{f"train {k}": v for k, v in event.train.items()}, **event.validation}
            told = ", ".join(f"{name} {format_number(value)}" for name, value in figures.items())
            return f"{clock}  epoch {event.epoch}: {told}{'  ← best' if event.best else ''}"
        case Progress(unit="trials"):
            return f"{clock}  {event.done} of {event.total} trials"
        case Message():
            return f"{clock}  {event.text}"
        case Paused():
            return f"{clock}  paused"
        case Resumed():
            return f"{clock}  continues in epoch {event.epoch}, after step {event.step}"
        case Finished():
            return f"{clock}  {event.state}{': ' + event.error if event.error else ''}"
    return ""


def _rm(magic: Magic, values: dict[str, Any]) -> None:
    if not values.get("yes"):
        told = magic.session.lost_with(values["name"])
        if told:
            raise OptionError(told, f"%maas rm {values['name']} --yes removes it all the same.")
    magic.session.backend.models.delete(values["name"])
    magic.show(f"Removed {values['name']}.")


def _compare(magic: Magic, values: dict[str, Any]) -> Any:
    return magic.session.compare(values["names"])


def _import(magic: Magic, values: dict[str, Any]) -> Any:
    if "data" in values:
        values |= rows_of(magic, values, targeted=True)
    return magic.session.run(ImportRequest(**values))


def _copying(name: str) -> Command:
    verb = VERBS[name]
    return Command(f"maas {name}", verb.summary, options_of(verb.request), example=verb.example)


def _copy(name: str) -> Run:
    return lambda magic, values: magic.session.run(VERBS[name].request(**values))


def _search(magic: Magic, values: dict[str, Any]) -> Any:
    rows = [values.pop("rows")] if "rows" in values else []
    data = [*rows, *values.pop("data", [])]
    if not data:
        raise OptionError("%maas search needs the rows that are searched.", f"%maas search {values['model']} QUERY df")
    if len(data) != 1:
        raise OptionError(f"--data takes one table; {len(data)} words were given.", "--data df")
    return magic.session.search(SearchRequest(**(values | {"data": data[0]})))


def _alias(magic: Magic, values: dict[str, Any]) -> None:
    store = magic.session.backend.models
    store.alias(values["name"], values["alias"])
    info = store.get(values["name"])
    magic.show(f"{info.name}@{values['alias']} names {info.ref} now.")


def _help(magic: Magic, values: dict[str, Any]) -> None:
    magic.show(overview())


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


ROWS = MagicOption(("rows",), "the rows that are searched", Names.rows, "DATA", many="?", offer=offers.tables)
SEARCH = (*(replace(option, required=False) for option in options_of(SearchRequest)), ROWS)
"""The rows behind the query, or as ``--data``."""


class Word(Protocol):
    """What a magic is: a module, or a `VerbMagic`."""

    @property
    def COMMAND(self) -> Command:  # noqa: N802
        """Name, summary and options."""

    @property
    def run(self) -> Callable[[Magic, str, str | None], Any]:
        """From a line to a value."""


SUBCOMMANDS: dict[str, tuple[Command, Run]] = {
    command.name.removeprefix("maas "): (command, run)
    for command, run in (
        (Command("maas status", "Where requests run, and what is there.", ()), _status),
        (
            Command(
                "maas models",
                "Models, or the versions of one.",
                (MagicOption(("name",), "a model", many="?", metavar="NAME", offer=offers.models),),
            ),
            _models,
        ),
        (Command("maas jobs", "Jobs, newest first.", ()), _jobs),
        (
            Command(
                "maas attach",
                "Show a job's live view again.",
                (ID, WAIT),
            ),
            _attach,
        ),
        (Command("maas stop", "Stop a job; its best checkpoint is kept.", (ID,)), _stop),
        (Command("maas pause", "Keep a training's state on disk, and let others run.", (ID,)), _pause),
        (
            Command(
                "maas resume",
                "Resume a training that was paused.",
                (ID, WAIT),
            ),
            _resume,
        ),
        (Command("maas logs", "What a job reported so far.", (ID,)), _logs),
        (
            Command(
                "maas compare",
                "Curves and metrics of several models or versions side by side.",
                (
                    MagicOption(
                        ("names",), "NAME, NAME:3 or NAME@alias", many="+", metavar="NAMES", offer=offers.models
                    ),
                ),
                example="%maas compare penguins:1 penguins:2",
            ),
            _compare,
        ),
        (
            Command(
                "maas import",
                VERBS["import"].summary,
                options_of(ImportRequest),
                example=VERBS["import"].example,
            ),
            _import,
        ),
        *((_copying(name), _copy(name)) for name in ("push", "pull", "sync", "key", "encrypt", "rotate-key", "sign")),
        (
            Command(
                "maas search",
                "Rows of a table that are most like a text.",
                SEARCH,
                example='%maas search near "how do I get there" faq -k 3',
            ),
            _search,
        ),
        (Command("maas rm", "Remove a version, NAME:3, or a whole model, NAME.", (MODEL, YES)), _rm),
        (
            Command(
                "maas alias",
                "Give a version a name of its own: NAME@ALIAS.",
                (MODEL, MagicOption(("alias",), "the alias", text, "ALIAS", offer=offers.aliases)),
            ),
            _alias,
        ),
        (Command("maas help", "This overview.", ()), _help),
    )
}
MAGICS: dict[str, Word] = {
    "train": train,
    "evaluate": VerbMagic("evaluate"),
    "export": VerbMagic("export"),
    "predict": predict,
    "chat": chat,
    "serve": serve,
    "connect": connect,
}


def words() -> dict[str, Word]:
    """Every magic but ``%maas``, also those of other packages, by name."""
    return MAGICS | brought_magics()


def overview() -> str:
    """Every magic with its summary."""
    rows = [(f"%{name}", word.COMMAND.summary) for name, word in words().items()]
    rows += [(f"%{command.name}", command.summary) for command, _ in SUBCOMMANDS.values()]
    return f"{text_table(rows)}\n\nEach takes --help. The first {len(words())} are subcommands of %maas as well."


COMMAND = Command("maas", "Everything around models and jobs.", ())


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Dispatch to a subcommand."""
    word, _, rest = uncommented(line).removesuffix(";").strip().partition(" ")
    if word in ("", "--help", "-h"):
        raise HelpAsked(overview())
    if word in MAGICS:
        return MAGICS[word].run(magic, rest, cell)
    if word not in SUBCOMMANDS and word in words():
        return words()[word].run(magic, rest, cell)
    if word not in SUBCOMMANDS:
        known = (*SUBCOMMANDS, *words())
        raise OptionError(f"%maas has no subcommand {word!r}.", meant(word, known) or did_you_mean("", known))
    if cell is not None:
        raise OptionError(f"%%maas {word} takes no cell.", f"%maas {word}")
    command, act = SUBCOMMANDS[word]
    return act(magic, command.parse(rest, magic.names))
