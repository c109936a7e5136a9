-- Takes tasks, highest priority first, and of each priority those whose claim is over before new ones. Returns their
-- receipts: "priority.entry.deliveries.task".
-- KEYS: how far the search for claims that are over has come (priority -> the entry at which it goes on, or "=" and the
-- moment at which the next one begins), the streams of priorities 0 to 9.
-- ARGV: the most tasks, the idle time that a claim begins with, the idle time at which it is over, the consumer.
--
-- The server counts how long an entry has been idle, and is told at the claim that it has been idle for some time already:
-- so each claim has a length of its own, and one bound serves all of them.
local left, begins, over, consumer = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
-- To look at a claim takes microseconds, in which the server does nothing else. So one call looks at fifty to a hundred (ten
-- for each that XAUTOCLAIM is to give back) and the next one goes on; and after all were looked at there is a pause, the
-- longer the more they were.
local wanted = math.min(left, 10)
local searches = math.max(1, math.floor(5 / left))
local SHORTEST_PAUSE, CLAIMS_PER_MS, LONGEST_PAUSE = 20, 10, 5000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local receipts = {}

local function is_no_group(reply)
  return type(reply) == 'table' and reply.err and string.find(reply.err, 'NOGROUP', 1, true)
end

local function task_of(entry)
  local task = entry[2] and entry[2][1] == 'task' and entry[2][2]
  return task and #task == 36 and string.match(task, '^%x+%-%x+%-%x+%-%x+%-%x+$')
end

local progresses = redis.call('HMGET', KEYS[1], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
for priority = 9, 0, -1 do
  local stream = KEYS[2 + priority]
  if left > 0 and redis.call('XLEN', stream) > 0 then
    local claimed = {}

    local function take(entry, deliveries)
      local task = task_of(entry)
      if task then
        claimed[#claimed + 1] = entry[1]
        receipts[#receipts + 1] = priority .. '.' .. entry[1] .. '.' .. deliveries .. '.' .. task
        left = left - 1
      else
        -- Nobody could ever do anything with it.
        redis.call('XACK', stream, 'workers', entry[1])
        redis.call('XDEL', stream, entry[1])
      end
    end

    local progress = progresses[priority + 1] or '0-0'
    local begins_at = tonumber(string.match(progress, '^=(%d+)$'))
    -- A moment too far away was told by a clock that has been put back since.
    if not begins_at or begins_at <= now or begins_at > now + LONGEST_PAUSE then
      local cursor = begins_at and '0-0' or progress
      for _ = 1, searches do
        local reply = redis.pcall('XAUTOCLAIM', stream, 'workers', consumer, over, cursor, 'COUNT', math.min(left, wanted))
        if is_no_group(reply) then
          redis.call('XGROUP', 'CREATE', stream, 'workers', '0')
          cursor = '0-0'
          break
        elseif reply.err then
          return reply
        end
        cursor = reply[1]
        for _, entry in ipairs(reply[2]) do
          if entry then
            local pending = redis.call('XPENDING', stream, 'workers', entry[1], entry[1], 1)
            take(entry, pending[1][4])
          end
        end
        if left == 0 or cursor == '0-0' then
          break
        end
      end
      if cursor == '0-0' then
        local claims = redis.call('XPENDING', stream, 'workers')[1]
        local pause = math.min(SHORTEST_PAUSE + math.floor(claims / CLAIMS_PER_MS), LONGEST_PAUSE)
        cursor = string.format('=%.0f', now + pause)
      end
      redis.call('HSET', KEYS[1], priority, cursor)
    end

    if left > 0 then
      local read = { 'XREADGROUP', 'GROUP', 'workers', consumer, 'COUNT', left, 'STREAMS', stream, '>' }
      local reply = redis.pcall(unpack(read))
      if is_no_group(reply) then
        redis.call('XGROUP', 'CREATE', stream, 'workers', '0')
        reply = redis.call(unpack(read))
      elseif reply and reply.err then
        return reply
      end
      if reply then
        for _, entry in ipairs(reply[1][2]) do
          take(entry, 1)
        end
      end
    end
    if #claimed > 0 then
      local command = { 'XCLAIM', stream, 'workers', consumer, 0 }
      for _, entry in ipairs(claimed) do
        command[#command + 1] = entry
      end
      command[#command + 1] = 'IDLE'
      command[#command + 1] = begins
      -- Does not count as a delivery.
      command[#command + 1] = 'JUSTID'
      redis.call(unpack(command))
    end
  end
end
return receipts
