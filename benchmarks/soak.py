"""Requests from many connections while the model is reloaded every second: nothing lost, nothing wrong, memory flat."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.measure import table
from benchmarks.serving.bodies import oip_json
from benchmarks.serving.ours import trained
from benchmarks.serving.servers.network import NAME

CONNECTIONS, ROWS = 64, 200

WRK = ("wrk", "-t1", f"-c{CONNECTIONS}", "-d10s", "--timeout", "20s", "--latency", "-s")

SCRIPT = """
local file = io.open(os.getenv("SOAK_ROWS")) local bodies, expected = {}, {}
for line in file:lines() do
  local body, answer = line:match("^(.-)\\t(.*)$")
  bodies[#bodies + 1] = body expected[#expected + 1] = answer
end
local headers = {["Authorization"] = "Bearer " .. io.open(os.getenv("SOAK_TOKEN")):read("*l")}
local sent = 0
function request()
  sent = sent + 1
  return wrk.format("POST", nil, headers, bodies[sent % #bodies + 1])
end
local wrong = 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function response(status, _, body)
  local id = tonumber(body:match('"id":"(%d+)"'))
  if status ~= 200 or not id or not body:find(expected[id], 1, true) then
    wrong = wrong + 1
    count = wrong
  end
end
function done(summary, latency)
  local total = 0
  for _, thread in ipairs(threads) do total = total + (thread:get("count") or 0) end
  local e = summary.errors
  print(string.format('{"requests": %d, "wrong": %d, "broken": %d, "p99": %.2f}', summary.requests, total,
    e.connect + e.read + e.write + e.timeout, latency:percentile(99) / 1000))
end
"""


def main(options: list[str] | None = None) -> None:
    """Print one table; ``--requests N`` for fewer than a million."""
    import numpy as np

    from maas_magics.local.backend import LocalBackend
    from maas_magics.remote.client import Client

    wanted = int(options[1]) if options and options[0] == "--requests" else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = trained(folder / "store")
        x = np.random.default_rng(1).normal(size=(ROWS, 64)).round(4).astype(np.float32)
        labels = LocalBackend(str(ours.store)).infer(NAME, {"x": x}).outputs["prediction"]
        with open(folder / "rows", "w") as out:
            for i, (row, label) in enumerate(zip(x, labels, strict=True), 1):
                tensor = {"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [round(float(v), 4) for v in row]}
                body = json.dumps({"id": str(i), "inputs": [tensor]}, separators=(",", ":"))
                out.write(f'{body}\t"datatype":"INT64","data":[{label}]\n')
        (folder / "soak.lua").write_text(SCRIPT)
        (folder / "bearer").write_text(ours.token)
        with ours.start(folder) as server:
            server.ready(ours.body(oip_json(x[:1])))
            address = server.url.partition("/v2/")[0]
            over = threading.Event()
            reloads = 0

            def reload() -> None:
                nonlocal reloads
                client = Client(address, lambda: ours.token)
                while not over.wait(1.0):
                    client.request("POST", f"/v2/repository/models/{NAME}/load")
                    reloads += 1

            def resident() -> float:
                status = Path(f"/proc/{server.pid}/status").read_text()
                found = re.search(r"VmRSS:\s+(\d+)", status)
                return int(found[1]) / 1024 if found else 0.0

            thread = threading.Thread(target=reload)
            thread.start()
            total = {"requests": 0, "wrong": 0, "broken": 0}
            memory, began, p99 = [], time.perf_counter(), 0.0
            try:
                while total["requests"] < wanted:
                    told = subprocess.run(
                        [*WRK, str(folder / "soak.lua"), server.url],
                        capture_output=True,
                        text=True,
                        env={
                            "SOAK_ROWS": str(folder / "rows"),
                            "SOAK_TOKEN": str(folder / "bearer"),
                            "PATH": "/usr/bin:/bin",
                        },
                    )
                    found = json.loads(told.stdout.splitlines()[-1])
                    for key in total:
                        total[key] += found[key]
                    p99 = max(p99, found["p99"])
                    memory.append(resident())
            finally:
                over.set()
                thread.join()
            seconds = time.perf_counter() - began
    table(
        "A soak",
        ("requests", "reloads", "lost", "wrong", "requests/s", "worst p99, ms", "MiB after 10 s", "MiB at the end"),
        [
            [
                f"{total['requests']:,}",
                str(reloads),
                f"{total['broken']:,}",
                f"{total['wrong']:,}",
                f"{total['requests'] / seconds:,.0f}",
                f"{p99:.1f}",
                f"{memory[0]:.0f}",
                f"{memory[-1]:.0f}",
            ]
        ],
        f"{CONNECTIONS} connections, {ROWS} different rows, each answer compared with the one for its own row.",
    )
