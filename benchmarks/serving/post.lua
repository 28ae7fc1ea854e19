-- wrk … -s post.lua URL -- BODY HEADERS: posts one body again and again, and prints what came of it as JSON.
-- wrk itself counts statuses from 400 on; with CHECK set, every status but 200, which slows it by some percent.

local clients = {}
other = 0

function setup(thread)
  clients[#clients + 1] = thread
end

function init(args)
  local body = assert(io.open(args[1], "rb"))
  wrk.method, wrk.body = "POST", body:read("*a")
  body:close()
  for line in io.lines(args[2]) do
    local name, value = line:match("^(.-): (.*)$")
    wrk.headers[name] = value
  end
end

if os.getenv("CHECK") then
  function response(status)
    if status ~= 200 then
      other = other + 1
    end
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
