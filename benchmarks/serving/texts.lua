-- wrk … -s texts.lua URL -- BODIES HEADERS: posts the lines of a file one after the other, and prints what came of it.

local bodies = {}
local at = 0
other = 0
local clients = {}

function setup(thread)
  clients[#clients + 1] = thread
end

function init(args)
  for line in io.lines(args[1]) do
    bodies[#bodies + 1] = line
  end
  wrk.method = "POST"
  for line in io.lines(args[2]) do
    local name, value = line:match("^(.-): (.*)$")
    wrk.headers[name] = value
  end
end

function request()
  at = at % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[at])
end

function response(status)
  if status ~= 200 then
    other = other + 1
  end
end

function done(summary, latency)
  local failed = summary.errors
  local refused = 0
  for _, thread in ipairs(clients) do
    refused = refused + thread:get("other")
  end
  print(string.format(
    '{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "refused": %d, "broken": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    math.max(refused, failed.status), failed.connect + failed.read + failed.write + failed.timeout
  ))
end
