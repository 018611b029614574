-- wrk: PUT a new object of SIZE bytes with every request. Arguments: SIZE SEED
local threads = 0
function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(arguments)
  size, seed, sent = tonumber(arguments[1]), arguments[2], 0
  local noise = io.open("/dev/urandom", "rb")
  rest = noise:read(size - 32)
  noise:close()
end

function request()
  sent = sent + 1
  local unique = string.format("%-16s%04x%012x", seed, id, sent)
  return wrk.format("PUT", "/object/put-" .. seed .. "-" .. id .. "-" .. sent, nil, unique .. rest)
end
