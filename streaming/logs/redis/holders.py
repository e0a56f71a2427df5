"""How many connections each holder has, in Lua: each script is one atomic step.

    <prefix>{<digest>}:places   of one holder: process -> ``<how many it has>:<number>``
    <prefix>holders             the processes that have any, by their last beat, in ms

Each process says how many it has, not that it has one more: a repetition, or an answer that is
lost, changes nothing. It numbers what it says, and what it said last counts, whatever comes first.
"""

from __future__ import annotations

from .scripts import Script

_SAY = """
local function parts(row)
  return tonumber(string.match(row, '^%d+')) or 0, tonumber(string.match(row, '%d+$')) or 0
end
local function has_lost(worker, told)
  return told == '1' and redis.call('HEXISTS', KEYS[1], worker) == 0
end
local function say(worker, count, number, ms)
  local before = redis.call('HGET', KEYS[1], worker)
  if before then
    local _, said = parts(before)
    if said >= number then return end
  end
  local row = count .. ':' .. string.format('%.0f', number)
  if count > 0 then redis.call('HSET', KEYS[1], worker, row)
  else redis.call('HDEL', KEYS[1], worker) end
  redis.call('PEXPIRE', KEYS[1], ms)
end
"""

# ARGV: process, 1 if it has said before that it has any, how many it has, number, ms to keep.
# Gives nil, and nothing is said, if what it has said before is not there: all may be lost.
SAY = Script.of(
    _SAY,
    """
if has_lost(ARGV[1], ARGV[2]) then return false end
say(ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5])
return {}
""",
)

# ARGV: the same, how many all may have, and of processes that are dead who they are and what they
# have said. Gives nothing if it is said, and else, where the others have too many for that, the
# same of them; nil as ``SAY``.
TAKE = Script.of(
    _SAY,
    """
if has_lost(ARGV[1], ARGV[2]) then return false end
for n = 7, #ARGV, 2 do  -- one that has come back has said something else
  if redis.call('HGET', KEYS[1], ARGV[n]) == ARGV[n + 1] then
    redis.call('HDEL', KEYS[1], ARGV[n])
  end
end
local all, count, others = redis.call('HGETALL', KEYS[1]), tonumber(ARGV[3]), {}
for n = 1, #all, 2 do
  if all[n] ~= ARGV[1] then
    count = count + parts(all[n + 1])
    others[#others + 1] = all[n]
    others[#others + 1] = all[n + 1]
  end
end
if count > tonumber(ARGV[6]) and #others > 0 then return others end
say(ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5])
return {}
""",
)

# ARGV: process, ms of a lease, ms to keep. Gives 1 if it was not among the living, and these.
BEAT = Script.of("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - ARGV[2]))
local is_new = redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {is_new, redis.call('ZRANGE', KEYS[1], 0, -1)}
""")

GO = Script.of("return redis.call('ZREM', KEYS[1], ARGV[1])")
