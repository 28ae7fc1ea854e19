"""Opens an exported file in a process of its own and answers some rows: a bad file may take its process with it.

``python -m maas_magics.core.exporters.check FORMAT FILE VERSION`` reads the rows from its input, and writes answers and
measurements to its output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from maas_magics.api.child import python
from maas_magics.api.errors import ExportError
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import handed

SECONDS = 600


@dataclass(frozen=True)
class Checked:
    """What another process found of an exported file.

    Attributes
    ----------
    answers : ndarray, shape (n, …)
        Decoded answers.
    latency, slowest : dict of str to float
        Milliseconds of a call by batch size: the median, the 99th percentile.
    memory : int
        Bytes that it took to open the file and to answer the rows; 0 where it was not measured.
    """

    answers: Array
    latency: dict[str, float]
    slowest: dict[str, float] = field(default_factory=dict)
    memory: int = 0


@contextmanager
def checking(format: str, file: Path, version: Path) -> Iterator[Callable[[Sequence[Array]], Checked]]:
    """A process that will open an exported file: it imports while the file is being made.

    Yields what asks it, once, for answers, latencies and memory; that raises `ExportError` where the process fails or
    dies.

    Parameters
    ----------
    format : str
        Of the file.
    file : Path
        Where it will be when rows are asked.
    version : Path
        Folder of the model's own files.
    """
    command = python("maas_magics.core.exporters.check", format, str(file), str(version))
    with handed.started(command, SECONDS) as ask:

        def check(raw: Sequence[Array]) -> Checked:
            try:
                code, answered, told = ask(raw)
            except subprocess.TimeoutExpired:
                code, answered, told = 1, b"", [f"it gave no answer in {SECONDS} s"]
            if code:
                died = f"the process that opened it died with signal {-code}" if code < 0 else ""
                why = died or (told or ["it failed"])[-1]
                raise ExportError(
                    f"The exported {format} file cannot be used: {why}. Nothing was published.", "Try another --format."
                )
            found = handed.read(answered)
            return Checked(found["answers"], **json.loads(str(found["measured"])))

        yield check


def most_memory() -> int:
    """Bytes that this process has had in memory at most; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status")  # in Linux, ``ru_maxrss`` begins at that of the process that started this one
    told = dict(line.split(":", 1) for line in status.read_text().splitlines()) if status.is_file() else {}
    return int(told["VmHWM"].split()[0]) * 1024 if "VmHWM" in told else 0


def main(format: str, file: str, version: str) -> None:
    """Answer the rows of the input."""
    from maas_magics.core.exporters.by_task import exporter_of
    from maas_magics.core.exporters.examples import ask, latency, padded_inputs
    from maas_magics.core.store.manifest import read_manifest, read_processor

    out, padded = handed.answer_stream(), padded_inputs(read_processor(Path(version)))
    exporter = exporter_of(format, read_manifest(Path(version)).answers)
    raw, begun = handed.unpacked(sys.stdin.buffer.read()), most_memory()  # they come once the file is there
    run = exporter.load(Path(file), Path(version), None)
    answers = ask(run, raw, padded)
    memory, slowest = most_memory() - begun, dict[str, float]()
    measured = {"latency": latency(run, raw, slowest), "slowest": slowest, "memory": memory}
    with out:
        out.write(handed.written(answers=answers, measured=json.dumps(measured)))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # the last line is what the user gets to read
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split())[:300])
