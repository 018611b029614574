-- wrk: GET one of COUNT existing things at random. Arguments: COUNT PATTERN AUTHORIZATION
function init(arguments)
  local count, pattern, authorization = tonumber(arguments[1]), arguments[2], arguments[3]
  local fields = authorization and { authorization = authorization } or nil
  made = {}
  for number = 1, count do
    made[number] = wrk.format("GET", string.format(pattern, number - 1), fields)
  end
end

function request()
  return made[math.random(#made)]
end
