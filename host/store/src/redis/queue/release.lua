-- Ends some claims of a stream; each counts as a delivery, so that receipts given before are worth nothing afterwards.
-- Returns where to go on, or an empty text.
-- KEYS: the stream, how far the search for claims that are over has come. ARGV: where to begin, the idle time at which a claim is over, the consumer, how many.
local stream = KEYS[1]
redis.call('DEL', KEYS[2])
local pending = redis.pcall('XPENDING', stream, 'workers', ARGV[1], '+', ARGV[4])
if pending.err then
  if string.find(pending.err, 'NOGROUP', 1, true) then
    return ''
  end
  return pending
end
if #pending == 0 then
  return ''
end
local command = { 'XCLAIM', stream, 'workers', ARGV[3], 0 }
for _, claim in ipairs(pending) do
  command[#command + 1] = claim[1]
end
command[#command + 1] = 'IDLE'
command[#command + 1] = ARGV[2]
redis.call(unpack(command))
return '(' .. pending[#pending][1]
