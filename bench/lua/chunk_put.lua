-- wrk: PUT a new piece with every request. Arguments: FILE SIZE SEED AUTHORIZATION
-- FILE holds bodies made beforehand: 32 hex digits of checksum, 16 of the block's, SIZE bytes. Names never repeat.
local threads = 0
function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(arguments)
  local size = tonumber(arguments[2])
  seed, sent, bodies = arguments[3], 0, {}
  local file = io.open(arguments[1], "rb")
  while true do
    local head = file:read(48)
    if not head then break end
    bodies[#bodies + 1] = {
      {
        authorization = arguments[4],
        ["x-flare-checksum"] = head:sub(1, 32),
        ["x-flare-blocks"] = head:sub(33, 48),
      },
      file:read(size),
    }
  end
  file:close()
end

function request()
  sent = sent + 1
  local name = string.format("/chunk/%048x%04x%012x.%s.0", 0, id, sent, seed)
  local made = bodies[sent % #bodies + 1]
  return wrk.format("PUT", name, made[1], made[2])
end
