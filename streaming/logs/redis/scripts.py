"""What Redis itself does for a log, in Lua: each script is one atomic step.

A channel is four keys of one hash tag, so that a cluster keeps them on one node:

    <prefix>{<channel>}:log     the messages, a stream; entry ``<offset>-0`` with the fields
                                ``t`` (ms), ``d`` (text), and ``e``, ``s``, ``k`` where they differ
                                from ``message`` and nothing; also the announcements' name
    <prefix>{<channel>}:meta    epoch, newest, oldest, size; run, past: see below; used (ms)
    <prefix>{<channel>}:keys    idempotency key -> ``<offset>:<ms>``
    <prefix>{<channel>}:order   the same keys by their ms

Lineage: a server that restarts, or takes over for another, may have lost what it acknowledged last
and would give the same offsets to other messages. Its replication id tells: it changes with each
start and each take-over. Whoever finds another one than ``meta.run`` begins a new epoch there and
notes in ``meta.past`` how far the old one is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1

PAST = 8
"""Epochs before the present one of which a position may still be good."""

EMPTY = 600_000
"""Milliseconds a channel without messages is kept."""

MAX_KEYS = 10_000
"""Idempotency keys a channel remembers at most, however long the window."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name Redis knows it by once it has run."""

    text: str
    sha: str

    @classmethod
    def of(cls, *parts: str) -> Script:
        text = "\n".join(parts)
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


# Every script of a channel begins with this. It only reads; `save` and `trim` write.
# ARGV: a new epoch, should one be needed; ms an idle channel is kept (0: for ever); and the
# retention: messages, bytes, ms (0: for ever).
_OPEN = f"""
local log, meta, keys, order = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local keep, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local room, age = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function print(number) return string.format('%.0f', number) end

local m = redis.call('HMGET', meta, 'epoch', 'newest', 'oldest', 'size', 'run', 'past', 'used')
local epoch, newest, oldest, size = m[1], tonumber(m[2]), tonumber(m[3]), tonumber(m[4])
local run, past, used = m[5], m[6], tonumber(m[7])
local changed = false

local info = redis.pcall('INFO', 'replication')  -- a table if it is forbidden
local server = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or run or ''
if not epoch then
  if redis.call('EXISTS', log, keys, order) > 0 then redis.call('DEL', log, keys, order) end
  epoch, newest, oldest, size, run, past, used = ARGV[1], 0, 1, 0, server, '', 0
  changed = true
elseif run ~= server then
  if run ~= '' then
    local all = {{}}
    for one in string.gmatch(past .. ' ' .. epoch .. ':' .. print(newest), '%S+') do
      all[#all + 1] = one
    end
    past = table.concat(all, ' ', math.max(1, #all - {PAST - 1}))
    epoch = ARGV[1]
  end
  run, changed = server, true
end
if oldest <= newest and redis.call('XLEN', log) == 0 then  -- Redis evicted it
  oldest, size, changed = newest + 1, 0, true
end

-- Let the keys live on; those of a channel that never had a message only shortly.
local function stay()
  local ms = keep
  if newest == 0 and (keep == 0 or keep > {EMPTY}) then ms = {EMPTY} end
  for _, name in ipairs({{log, meta}}) do
    if ms > 0 then redis.call('PEXPIRE', name, print(ms)) else redis.call('PERSIST', name) end
  end
end

local function save()
  redis.call('HSET', meta, 'epoch', epoch, 'newest', print(newest), 'oldest', print(oldest),
             'size', print(size), 'run', run, 'past', past, 'used', print(used))
end

-- Let go of the oldest; true if there was something to let go of. An append leaves most of what is
-- old to the next, for looking at an entry costs as much as appending one.
local function trim(isAppend)
  local first = oldest
  while oldest <= newest do
    if isAppend and oldest > first and newest - oldest < most and size <= room then break end
    local held, id = newest - oldest + 1, print(oldest) .. '-0'
    local entry = redis.call('XRANGE', log, id, id)[1]
    if entry then  -- always, unless somebody else has been at our keys
      local since, text = tonumber(entry[2][2]), entry[2][4]
      local isYoung = age == 0 or now - since <= age
      if held <= most and (size <= room or held == 1) and isYoung then break end
      size = size - #text
    end
    oldest = oldest + 1
  end
  if oldest > first then redis.call('XTRIM', log, 'MINID', print(oldest) .. '-0') end
  return oldest > first
end
"""

# ... of reading: they change little, and do so even if memory is short. Redis asks for memory only
# before a script's first write, and not for this one.
_SAVE_READ = """
if changed then
  redis.call('HDEL', meta, '')
  save()
  stay()
end
"""

# ARGV 6-10: ms a key is remembered, key or '', text, event, sender or ''.
# Gives epoch, offset, and the first message if it was a repetition and is still held.
APPEND = Script.of(
    _OPEN,
    f"""
local window, key, text, event, sender = tonumber(ARGV[6]), ARGV[7], ARGV[8], ARGV[9], ARGV[10]
if key ~= '' then
  local seen = redis.call('HGET', keys, key)
  local offset, since = string.match(seen or '', '(%d+):(%d+)')
  if offset and now - tonumber(since) <= window then
    if changed then save() stay() end
    return {{epoch, offset, redis.call('XRANGE', log, offset .. '-0', offset .. '-0')}}
  end
end

-- What may fail comes before what cannot be taken back: an announcement may be forbidden, and Redis
-- asks for memory, a disk and replicas before the first write. A wake-up for nothing is harmless.
redis.call('PUBLISH', log, print(newest + 1))
local entry = {{'t', print(now), 'd', text}}
local function add(name, value) entry[#entry + 1] = name entry[#entry + 1] = value end
if event ~= 'message' then add('e', event) end
if sender ~= '' then add('s', sender) end
if key ~= '' then add('k', key) end
local renew = oldest > newest or newest == 0 or (keep > 0 and now - used > keep / 8)
redis.call('XADD', log, print(newest + 1) .. '-0', unpack(entry))
newest, size = newest + 1, size + #text
trim(true)
if changed or renew then
  used = now
  save()
  stay()
else
  redis.call('HSET', meta, 'newest', print(newest), 'oldest', print(oldest), 'size', print(size))
end

if key ~= '' then
  redis.call('HSET', keys, key, print(newest) .. ':' .. print(now))
  redis.call('ZADD', order, print(now), key)
  local before = '(' .. print(now - window)
  local gone = redis.call('ZRANGEBYSCORE', order, '-inf', before, 'LIMIT', 0, 16)
  if #gone == 0 and redis.call('ZCARD', order) > {MAX_KEYS} then
    gone = redis.call('ZRANGE', order, 0, 0)
  end
  if #gone > 0 then
    redis.call('HDEL', keys, unpack(gone))
    redis.call('ZREM', order, unpack(gone))
  end
  redis.call('PEXPIRE', keys, print(window + 1000))
  redis.call('PEXPIRE', order, print(window + 1000))
end
return {{epoch, print(newest)}}
""",
)

# ARGV 6-9: epoch and offset of the position, messages and bytes at most.
# Gives epoch, offset before the first entry, 1 if there is a gap, newest, entries. Behind a gap it
# goes on with the oldest held, or where the position's epoch ended: what it saw before is the same.
READ = Script.of(
    _OPEN,
    """
local from, offset, limit, bytes = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local entries, gap = {}, 0
if epoch ~= from or offset ~= newest then
  changed = trim() or changed
  local good, same = epoch == from and newest or -1, 0
  for name, reach in string.gmatch(past, '(%w+):(%d+)') do
    if name == from then good, same = tonumber(reach), tonumber(reach) end
  end
  if offset > good or offset + 1 < oldest then
    gap, offset = 1, math.max(same < offset and same or 0, oldest - 1)
  end
  -- A few at a time, for they may be large.
  local last, total = offset, 0
  while last < newest and #entries < limit do
    local count = math.min(64, limit - #entries)
    local some = redis.call('XRANGE', log, print(last + 1), '+', 'COUNT', count)
    if #some == 0 then break end
    for _, entry in ipairs(some) do
      total = total + #entry[2][4]
      if total > bytes and #entries > 0 then
        limit = 0
        break
      end
      entries[#entries + 1] = entry
      last = last + 1
    end
  end
end
"""
    + _SAVE_READ
    + "return {epoch, print(offset), gap, print(newest), entries}",
)

# Gives epoch, oldest, newest.
TAIL = Script.of(
    _OPEN,
    "changed = trim() or changed" + _SAVE_READ + "return {epoch, print(oldest), print(newest)}",
)

# For a channel that is followed: keeps it, if it is there. Gives epoch and newest or nothing.
TOUCH = Script.of(
    f"""
local m = redis.call('HMGET', KEYS[2], 'epoch', 'newest')
if not m[1] then return false end
local keep = tonumber(ARGV[1])
if m[2] == '0' and (keep == 0 or keep > {EMPTY}) then keep = {EMPTY} end
if keep > 0 then
  redis.call('PEXPIRE', KEYS[1], keep)
  redis.call('PEXPIRE', KEYS[2], keep)
end
return m[1] .. '-' .. m[2]
"""
)

# Proves that the server can be written to.
CHECK = Script.of("return redis.call('SET', KEYS[1], '1', 'PX', '60000')")
