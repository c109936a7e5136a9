-- Keeps a value if there is room for it. Returns 1 if it did.
-- ARGV: the key, the value, for how many milliseconds, the most keys, the most bytes.
local key, value, lasts, most_keys, most_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
settle()
forget_what_is_over(100)

local function has_room()
  local keys = redis.call('HLEN', values) + 1
  local held = tonumber(redis.call('GET', bytes) or 0) + #key + #value
  if redis.call('HEXISTS', values, key) == 1 then
    keys = keys - 1
    held = held - size_of(key)
  end
  return keys <= most_keys and held <= most_bytes
end

if not has_room() then
  forget_what_is_over(most_keys)
  if not has_room() then
    return 0
  end
end
forget(key)
redis.call('HSET', values, key, value)
redis.call('ZADD', due, now + lasts, key)
redis.call('INCRBY', bytes, #key + #value)
local left = math.max(redis.call('PTTL', values), lasts)
redis.call('PEXPIRE', values, left)
redis.call('PEXPIRE', due, left)
redis.call('PEXPIRE', bytes, left)
return 1
