"""Rooms and who lives, in Lua: each script is one atomic step.

    <prefix>{<room>}:members        ``m<id>`` -> [place, worker, info], ``x<id>`` -> [name, {worker:
                                    connections}], and under nothing the last place given
    <prefix>worker:<worker>:rooms   the rooms that one worker has members in
    <prefix>workers                 all workers by their last beat, in ms

A member has ``x<id>`` only where it has a name, or is not one connection's. Processes of an earlier
version do not look at it: for them the member is that of the one worker, so both can be at work at
the same time.
"""

from __future__ import annotations

from .scripts import Script

_HELD = """
local function parse(row, more)
  if not row then return nil end
  row = cjson.decode(row)
  local it = {place = row[1], worker = row[2], info = row[3], name = '', held = {}}
  if more then
    more = cjson.decode(more)
    it.name, it.held = more[1], more[2]
  end
  it.held[it.worker] = it.held[it.worker] or 1
  return it
end
local function read(id)
  return parse(unpack(redis.call('HMGET', KEYS[1], 'm' .. id, 'x' .. id)))
end
local function write(id, it)
  local count, last = 0, nil
  for worker in pairs(it.held) do count, last = count + 1, worker end
  if not it.held[it.worker] then it.worker = last end
  redis.call('HSET', KEYS[1], 'm' .. id, cjson.encode({it.place, it.worker, it.info}))
  if it.name == '' and count == 1 and it.held[last] == 1 then
    redis.call('HDEL', KEYS[1], 'x' .. id)
  else
    redis.call('HSET', KEYS[1], 'x' .. id, cjson.encode({it.name, it.held}))
  end
end
-- Whether nobody has the member any more that this worker had.
local function release(id, it, worker)
  redis.call('HDEL', KEYS[1], 'm' .. id, 'x' .. id)
  it.held[worker] = nil
  if next(it.held) == nil then return true end
  write(id, it)  -- behind a first write no memory is asked for
  return false
end
"""

# ARGV: worker, member, info, name, connections, 1 if the member says them, ms, how many workers
# live, these, and others that were looked for since they had the member.
# Gives the member as it was: connections, info, name; 0 if no living worker had it. Where only one
# has it of whom nothing is known, it does nothing and gives -1, and who: it may have come after the
# living were counted.
ENTER = Script.of(
    _HELD,
    """
local worker, id, known, connections = ARGV[1], ARGV[2], {}, 0
local it = read(id)
for n = 9, #ARGV do
  known[ARGV[n]] = true
  if it and n <= 8 + ARGV[8] then connections = connections + (it.held[ARGV[n]] or 0) end
end
local before = {0}
if connections > 0 then
  before = {connections, it.info, it.name}
else
  local strange = {-1}
  for other in pairs(it and it.held or {}) do
    if not known[other] then strange[#strange + 1] = other end
  end
  if #strange > 1 then return strange end
  it = {place = redis.call('HINCRBY', KEYS[1], '', 1), held = {}}
end
if connections == 0 or ARGV[6] == '1' then it.info, it.name = ARGV[3], ARGV[4] end
it.worker, it.held[worker] = worker, tonumber(ARGV[5])
write(id, it)
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return before
""",
)

# ARGV: worker, member. Gives 1 if nobody has it with that.
LEAVE = Script.of(
    _HELD,
    """
local it = read(ARGV[2])
if it and it.held[ARGV[1]] and release(ARGV[2], it, ARGV[1]) then return 1 end
return 0
""",
)

MEMBERS = Script.of("return redis.call('HGETALL', KEYS[1])")

FIND = Script.of("return redis.call('HMGET', KEYS[1], 'm' .. ARGV[1], 'x' .. ARGV[1])")

# Takes out what one worker has and gives the ids of the members that nobody has with that: to one
# caller, for it is one step.
CLEAR = Script.of(
    _HELD,
    """
local gone, all, fields = {}, redis.call('HGETALL', KEYS[1]), {}
for n = 1, #all, 2 do fields[all[n]] = all[n + 1] end
for n = 1, #all, 2 do
  local id = string.sub(all[n], 2)
  local it = string.sub(all[n], 1, 1) == 'm' and parse(all[n + 1], fields['x' .. id])
  if it and it.held[ARGV[1]] and release(id, it, ARGV[1]) then gone[#gone + 1] = id end
end
return gone
""",
)

RENEW = Script.of("return redis.call('PEXPIRE', KEYS[1], ARGV[1])")

# The rooms that one worker has members in, so that they can be found when it dies.
NOTE = Script.of("""
-- Redis asks for memory before a script's first write only, and not for this one.
redis.call('SREM', KEYS[1], '')
redis.call('SADD', KEYS[1], unpack(ARGV, 2))
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
""")

ROOMS = Script.of("return redis.call('SMEMBERS', KEYS[1])")

FORGET = Script.of("return redis.call('SREM', KEYS[1], ARGV[1])")

# All workers by their last beat. ARGV: worker or '', ms of a lease, ms to keep it.
# Gives those that live, and those that died. Where Redis takes no writes nobody can beat, so those
# live that did when somebody last could.
BEAT = Script.of("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local nothing = redis.pcall('ZREM', KEYS[1], '')  -- no memory is asked for, nor behind it
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
elseif type(nothing) == 'table' then
  local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
  now = math.min(tonumber(last) or now, now)
end
return {redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[2], '+inf'),
        redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - ARGV[2]))}
""")

# Forgets a worker unless it has come back. ARGV: worker, ms of a lease (below 0: in any case).
BURY = Script.of("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local beat = redis.call('ZSCORE', KEYS[1], ARGV[1])
if beat and tonumber(beat) < now - ARGV[2] then redis.call('ZREM', KEYS[1], ARGV[1]) end
""")
