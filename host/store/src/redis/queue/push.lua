-- Puts tasks on a shard's queue that are not on it yet. Returns how many were put.
-- KEYS: the index (task -> "priority:entry"), the set of shards, the streams of priorities 0 to 9.
-- ARGV: the shard, the most tasks on it, then a task and its priority each.
local index = KEYS[1]
local held = 0
for priority = 0, 9 do
  held = held + redis.call('XLEN', KEYS[3 + priority])
end
-- Index and streams are changed together by scripts only. If they differ, somebody took one of them away (an operator, an
-- eviction): then the index is not believed, or a task could never be queued again.
local indexed = redis.call('HLEN', index)
local doubtful = indexed ~= held
if held == 0 and indexed > 0 then
  redis.call('DEL', index)
  doubtful = false
end

local function is_there(place)
  local priority, entry = string.match(place, '^(%d):(%d+%-%d+)$')
  return priority and #redis.call('XRANGE', KEYS[3 + tonumber(priority)], entry, entry) > 0
end

redis.call('SADD', KEYS[2], ARGV[1])
local most = tonumber(ARGV[2])
local grouped = {}
local put = 0
for at = 3, #ARGV, 2 do
  local task, priority = ARGV[at], ARGV[at + 1]
  local place = redis.call('HGET', index, task)
  if place and doubtful and not is_there(place) then
    place = false
  end
  if not place and held < most then
    local stream = KEYS[3 + tonumber(priority)]
    if not grouped[stream] then
      -- Fails when the group is there, which is as well.
      redis.pcall('XGROUP', 'CREATE', stream, 'workers', '0', 'MKSTREAM')
      grouped[stream] = true
    end
    local entry = redis.call('XADD', stream, '*', 'task', task)
    redis.call('HSET', index, task, priority .. ':' .. entry)
    held = held + 1
    put = put + 1
  end
end
return put
