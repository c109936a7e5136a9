-- KEYS: the values of an agent (key -> JSON), when each is forgotten (key by moment), the bytes of keys and values.
local values, due, bytes = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The three are changed together by scripts only. If they do not fit together, one was taken away (an operator, an
-- eviction): what remains is forgotten too, or its bytes would count for ever.
local function settle()
  local held = redis.call('HLEN', values)
  if held ~= redis.call('ZCARD', due) or (held > 0) ~= (redis.call('EXISTS', bytes) == 1) then
    redis.call('DEL', values, due, bytes)
  end
end

local function size_of(key)
  return #key + redis.call('HSTRLEN', values, key)
end

local function forget(key)
  if redis.call('HEXISTS', values, key) == 1 then
    redis.call('DECRBY', bytes, size_of(key))
    redis.call('HDEL', values, key)
    redis.call('ZREM', due, key)
    if redis.call('HLEN', values) == 0 then
      redis.call('DEL', bytes)
    end
  end
end

local function forget_what_is_over(most)
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, most)) do
    forget(key)
  end
end
