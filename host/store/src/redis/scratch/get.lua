-- Gives the value under a key, or nothing. ARGV: the key.
local over = redis.call('ZSCORE', due, ARGV[1])
if over and tonumber(over) > now then
  return redis.call('HGET', values, ARGV[1])
end
return false
