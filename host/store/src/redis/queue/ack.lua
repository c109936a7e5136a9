-- Takes a task off the queue if this claim of it is still the newest. Returns 1 if it did.
-- KEYS: the stream, the index. ARGV: the entry, the claim's number of deliveries, the task, the priority.
local stream, entry, task = KEYS[1], ARGV[1], ARGV[3]
local pending = redis.pcall('XPENDING', stream, 'workers', entry, entry, 1)
if pending.err then
  if string.find(pending.err, 'NOGROUP', 1, true) then
    return 0
  end
  return pending
end
if #pending == 0 or pending[1][4] ~= tonumber(ARGV[2]) then
  return 0
end
-- Two shards may well give their entries the same name.
local found = redis.call('XRANGE', stream, entry, entry)
if #found == 0 or found[1][2][2] ~= task then
  return 0
end
redis.call('XACK', stream, 'workers', entry)
redis.call('XDEL', stream, entry)
if redis.call('HGET', KEYS[2], task) == ARGV[4] .. ':' .. entry then
  redis.call('HDEL', KEYS[2], task)
end
return 1
