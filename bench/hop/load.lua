-- wrk script: POSTs one constant tensor; arguments are the shape and the number of FP32 elements.
-- Without a `request` function wrk formats the request once, so that the load generator takes little of the machine.
function init(args)
  wrk.method = "POST"
  wrk.path = "/infer?" .. args[1]
  wrk.body = string.rep("\0\0\128\63", tonumber(args[2]))
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("result %d %d %d %d %d\n",
    summary.requests, failed, summary.duration, latency:percentile(50), latency:percentile(99)))
end
