-- wrk: send the requests of FILE, one after the other, from the beginning again when it ends. Arguments: FILE
-- FILE holds whole requests, each behind its length in 8 digits.
function init(arguments)
  made, sent = {}, 0
  local file = io.open(arguments[1], "rb")
  while true do
    local length = file:read(8)
    if not length then break end
    made[#made + 1] = file:read(tonumber(length))
  end
  file:close()
end

function request()
  sent = sent + 1
  return made[(sent - 1) % #made + 1]
end
