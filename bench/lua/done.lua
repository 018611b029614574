-- Appended to every script: one line of JSON with what wrk counted; times in microseconds.
function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    'RESULT {"requests": %d, "duration": %d, "failed": %d, "refused": %d, "p50": %d, "p90": %d, "p99": %d, "max": %d}',
    summary.requests, summary.duration, errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
