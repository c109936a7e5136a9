-- Counts a call if the window has room for it. Returns -1 if it has, else the milliseconds after which it may have.
-- KEYS: the moments of the allowed calls, oldest first. ARGV: the most calls in a window, the window in milliseconds.
local calls, most, window = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A clock that goes back is taken to stand still.
local newest = redis.call('LINDEX', calls, -1)
if newest then
  now = math.max(now, tonumber(newest))
end
local oldest = redis.call('LINDEX', calls, 0)
while oldest and now - oldest >= window do
  redis.call('LPOP', calls)
  oldest = redis.call('LINDEX', calls, 0)
end
local count = redis.call('LLEN', calls)
if count < most then
  redis.call('RPUSH', calls, now)
  redis.call('PEXPIRE', calls, window)
  return -1
end
if count == 0 then
  return window
end
-- The limit may have been higher before: so many have to be forgotten first.
return redis.call('LINDEX', calls, count - math.max(most, 1)) + window - now
