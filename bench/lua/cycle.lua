-- wrk: PUT, GET and DELETE an object of SIZE bytes in turns. Arguments: SIZE SEED
-- A thread's requests are in order only if it has one connection: as many threads as connections.
local threads = 0
function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(arguments)
  size, seed = tonumber(arguments[1]), arguments[2]
  sent = -2 -- wrk makes one request for a trial and never sends it, so the first PUT is made twice
end

function request()
  sent = sent + 1
  local step = math.max(sent, 0)
  local number = math.floor(step / 3)
  local path = "/object/cycle-" .. seed .. "-" .. id .. "-" .. number
  if step % 3 == 1 then return wrk.format("GET", path) end
  if step % 3 == 2 then return wrk.format("DELETE", path) end
  return wrk.format("PUT", path, nil, string.format("%-" .. size .. "s", seed .. "-" .. id .. "-" .. number))
end
