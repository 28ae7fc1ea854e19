"""A history in words: lines, table rows and the HTML that every front end shows."""

from __future__ import annotations

from html import escape

from maas_magics.api.events import EpochEnd
from maas_magics.api.results import always
from maas_magics.api.tables import format_number, html_table, text_table
from maas_magics.widgets.drawn import html as html_drawn
from maas_magics.widgets.history import History

# Mid-tones that can be read on white and on near-black alike: a saved output cannot know the theme.
TRAIN, VALIDATION, BEST, MUTED = "#3d84d6", "#d9742b", "#2f9e6b", "#808890"
OPEN = 8
"""Notes that are shown without being folded."""

WARNED = ";color:#b8821b"

MACHINE = ("device", "products", "fast")
"""Facts that depend on the machine."""

STATE_COLOURS = {"succeeded": BEST, "failed": "#d64545", "stopped": "#c08a1e"}


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def rate(history: History) -> str:
    """Present speed with its unit, or nothing if it is unknown."""
    unit = history.progress.unit if history.progress else "samples"
    value = history.rate
    return f"{value:,.0f} {unit}/s" if value >= 10 else f"{value:.2g} {unit}/s" if value > 0 else ""


def position(history: History) -> str:
    """How far it is: ``epoch 3/20`` or ``4,000/10,000 rows``."""
    if history.progress:
        total = f"/{history.progress.total:,}" if history.progress.total else ""
        return f"{history.progress.done:,}{total} {history.progress.unit}"
    epochs = history.started.epochs if history.started else 0
    if not history.epoch:
        return ""
    return f"epoch {history.epoch}/{epochs}" if epochs else f"epoch {history.epoch}"


def outcome(history: History) -> str:
    """State of a job that is over, and how far it came."""
    parts: list[str] = [history.state]
    if history.last:
        most = history.started.epochs if history.started else 0
        done = history.last.epoch
        parts.append(f"{done} epoch{'s' if done != 1 else ''}" if most in (0, done) else f"{done} of {most} epochs")
    elif history.progress:
        parts.append(f"{history.progress.done:,} {history.progress.unit}")
    return ", ".join(parts)


def best_figures(history: History) -> list[tuple[str, str]]:
    """Metrics of the best epoch, validation first: ``("val loss", "0.21")``."""
    end = history.best or history.last
    if end is None:
        return []
    if not end.validation:
        return [(name, format_number(value)) for name, value in end.train.items()]
    return [("val loss" if name == "loss" else name, format_number(value)) for name, value in end.validation.items()]


def line(history: History, *, stopping: bool = False) -> str:
    """One line of a running job."""
    parts = [history.title, "stopping…" if stopping else position(history) or history.state]
    if history.state == "paused":
        parts.append("paused")
    if history.last or history.step:
        parts.append(f"loss {format_number(history.loss)}" if not history.progress else "")
    if history.last:
        parts += [f"{name} {value}" for name, value in current_figures(history.last)[:2]]
    parts.append(rate(history))
    if history.left is not None and not stopping:
        parts.append(f"{duration(history.left)} left")
    return "  ".join(part for part in parts if part)


def current_figures(end: EpochEnd) -> list[tuple[str, str]]:
    """Validation metrics of one epoch."""
    return [("val loss" if name == "loss" else name, format_number(value)) for name, value in end.validation.items()]


def final_line(history: History, *, volatile: bool = True) -> str:
    """One line of a job that is over; without ``volatile`` the same in every run."""
    parts = [f"{history.title}: {outcome(history)}"]
    if history.best_epoch:
        parts.append(f"best epoch {history.best_epoch}")
    parts += [f"{name} {value}" for name, value in best_figures(history)[:3]]
    if volatile:
        parts.append(duration(history.seconds))
    if history.error:
        parts.append(history.error)
    return " · ".join(parts)


def settings(history: History, *, volatile: bool = True) -> list[tuple[str, str]]:
    """What runs, by name: task, network, optimizer, batch size …; without ``volatile`` the same on every machine."""
    started = history.started
    if started is None:
        return []
    told = [(name, text) for name, text in started.summary.items() if volatile or name not in MACHINE]
    told = [("network" if name == "architecture" else name, text) for name, text in told]
    return told + ([("parameters", f"{started.parameters:,}")] if started.parameters else [])


def shown_settings(history: History) -> list[str]:
    """The same, each as what stands by itself: ``"batch size 128"``, ``"41,354 parameters"``."""
    form = {"parameters": "{} parameters", "batch size": "batch size {}"}
    return [form.get(name, "{}").format(text) for name, text in settings(history)]


def rows(history: History, *, volatile: bool = True) -> list[tuple[str, ...]]:
    """Summary of a job that is over, one tuple of cells a row; without ``volatile`` the same in every run."""
    table: list[tuple[str, ...]] = [("state", outcome(history))]
    if history.error:
        table.append(("error", history.error))
    end = history.best or history.last
    if history.best_epoch:
        table.append(("best epoch", str(history.best_epoch)))
    if end and end.validation:
        columns = [("train", end.train), ("validation", end.validation)]
        if history.baseline:
            columns.append((always(history.baseline), history.baseline))
        table.append(("", *(head for head, _ in columns)))
        names = dict.fromkeys((*end.train, *end.validation))
        nan = float("nan")
        table += [(name, *(format_number(figures.get(name, nan)) for _, figures in columns)) for name in names]
    elif end:
        table += [(name, format_number(value)) for name, value in end.train.items()]
    if volatile:
        speed = rate(history).split(" ")
        table += [(speed[1], speed[0])] if len(speed) == 2 else []
        table.append(("time", duration(history.seconds)))
    table += settings(history, volatile=volatile)
    if history.profile is not None:
        table.append(("time of a step", history.profile.advice))
    return table


def summary(history: History, *, volatile: bool = True) -> dict[str, str]:
    """Table output of a job that is over, as a MIME bundle; every note is written below."""
    body = rows(history, volatile=volatile)
    wide = [row for row in body if len(row) > 2]
    long = [row for row in body if len(row) == 2 and wide]
    # A long text in a column of numbers would tear the columns apart: such rows are a table of their own.
    tables = ([html_table(wide[1:], head=wide[0])] if wide else []) + [html_table(long or body)]
    html = (
        f"<b>{escape(history.title)}</b>"
        f'<div style="display:flex;flex-wrap:wrap;align-items:flex-start;gap:0 40px">{"".join(tables)}</div>'
        f"{html_drawn(history.drawn)}{notes(history)}"
    )
    told = "".join(
        f"\n{'warning' if message.level == 'warning' else 'note'}: {message.text}" for message in history.messages
    )
    text = f"{history.title}\n{text_table(long or body)}" + (f"\n\n{text_table(wide)}" if wide else "")
    return {"text/html": html, "text/plain": text + ("\n" + told if told else "")}


def notes(history: History) -> str:
    """Every note of a job as HTML: warnings first and marked; many others are folded."""
    warned = [_note(f"⚠ {text}", WARNED) for text in history.warnings]
    others = [_note(f"· {message.text}") for message in history.messages if message.level != "warning"]
    folded = "".join(others)
    if len(others) > OPEN:
        folded = f"<details><summary>{len(others)} notes</summary>{folded}</details>"
    return f'<div style="margin:6px 0 2px;font-size:13px">{"".join(warned)}{folded}</div>' if warned or others else ""


def _note(text: str, style: str = "") -> str:
    return f'<div style="padding-left:16px;text-indent:-16px{style}">{escape(text)}</div>'


def baseline(history: History, *, stopping: bool = False) -> dict[str, str]:
    """Display of a running job for front ends without widgets, as a MIME bundle."""
    now = line(history, stopping=stopping)
    share = history.fraction
    bar = (
        f'<div style="max-width:640px;height:4px;border-radius:2px;background:{MUTED}44;margin:4px 0 6px">'
        f'<div style="width:{100 * share:.1f}%;height:4px;border-radius:2px;background:{TRAIN}"></div></div>'
        if share is not None
        else ""
    )
    title, _, rest = now.partition("  ")
    told = " · ".join(shown_settings(history))
    about = f'<div style="color:{MUTED}">{escape(told)}</div>' if told else ""
    html = (
        f"<div><b>{escape(title)}</b> &nbsp;{escape(rest).replace('  ', ' &nbsp;·&nbsp; ')}{about}{bar}"
        f"{html_drawn(history.drawn)}{notes(history)}</div>"
    )
    return {"text/html": html, "text/plain": now}
