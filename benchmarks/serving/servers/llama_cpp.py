"""llama.cpp's server, from the wheel of xllamacpp: ``python llama_cpp.py FILE PORT SLOTS``."""

import sys
import time

from xllamacpp import CommonParams, Server

file, port, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
params = CommonParams()
params.model.path = file
params.n_parallel = slots
params.n_ctx = 2_048 * slots
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.port = port
server = Server(params)
while True:
    time.sleep(3_600)
