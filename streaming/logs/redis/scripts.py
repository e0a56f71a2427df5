"""What Redis itself does for a log, in Lua: each script is one atomic step.

A channel is four keys of one hash tag, so that a cluster keeps them on one node:

    <prefix>{<channel>}:log     the messages, a stream; entry ``<offset>-0`` with the fields
                                ``t`` (ms), ``d`` (text), and ``e``, ``s``, ``k``, ``p`` where they
                                differ from ``message`` and nothing; announcements (``messages.py``)
                                have this name too
    <prefix>{<channel>}:meta    epoch, newest, oldest, size; run, past: see below; born, used: ms of
                                the first append, and of the last that let the keys live on;
                                ended: ms of the last message there can be, or nothing
    <prefix>{<channel>}:keys    idempotency key -> ``<offset>:<ms>``
    <prefix>{<channel>}:order   the same keys by their ms

Lineage: a server that restarts, or takes over for another, may have lost what it acknowledged last
and would give the same offsets to other messages. Its replication id tells: it changes with each
start and each take-over. Whoever finds another one than ``meta.run`` begins a new epoch there and
notes in ``meta.past`` how far the old one is the same.

Marks: where there is no channel there are no keys, and a mark is the server's time. A channel lives
for ``keep`` ms at least, or for ``endKeep`` if it has ended: if one is born less than the shorter
of them after a mark, none was born and has expired in between. All marks have one epoch. Any other
would have to be written, or be the replication id, and then each start of a server would be a gap
for all who wait for a first message. The price: of a channel that was born after the mark and
evicted, flushed or lost as a whole there is no trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1

from ...message import MARK
from ..contract import MAX_KEYS

PAST = 8
"""Epochs before the present one of which a position may still be good."""

NONE = f"{MARK}0"
"""The epoch of all marks."""

CARRIED = 1024
"""Bytes of text that are announced with their message; of a longer one only its place is."""

SLACK = 30_000
"""Milliseconds that the clock of a server may differ from that of another that takes over."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name Redis knows it by once it has run."""

    text: str
    sha: str

    @classmethod
    def of(cls, *parts: str) -> Script:
        text = "\n".join(parts)
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


# Every script of a channel begins with this. It only reads; `renew` is for who will save it, and
# `settle`, `save` and `trim` write.
# ARGV: a new epoch, should one be needed; ms an idle channel is kept (0: for ever); what it keeps:
# messages, bytes, ms (0: for ever); ms an ended channel is kept, and ms that it holds what it had
# (0: for ever); ms a key is remembered.
_OPEN = f"""
local log, meta, keys, order = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local keep, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local room, age = tonumber(ARGV[4]), tonumber(ARGV[5])
local endKeep, afterEnd = ARGV[6], ARGV[7]  -- numbers when they are needed
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function print(number) return string.format('%.0f', number) end

local m = redis.call('HMGET', meta, 'epoch', 'newest', 'oldest', 'size', 'run', 'past', 'used',
                     'born', 'ended')
local epoch, newest, oldest, size = m[1], tonumber(m[2]), tonumber(m[3]), tonumber(m[4])
local run, past, used, born = m[5], m[6], tonumber(m[7]), tonumber(m[8]) or 0
local ended = tonumber(m[9])
local changed = false

-- Whether a position is a mark since which nothing can have been forgotten until this time.
local NONE = '{NONE}'
local function isWhole(from, mark, till)
  local least = tonumber(endKeep)
  if least == 0 or keep > 0 and keep < least then least = keep end
  return from == NONE and mark <= till and (least == 0 or till - mark < least - {SLACK})
end

local info = redis.pcall('INFO', 'replication')  -- a table if it is forbidden
local server = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or run or ''
local function renew()
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
local held = epoch and redis.call('XLEN', log) or 0
if epoch and held > newest - oldest + 1 then
  return redis.error_reply('FOREIGN entries in the stream')
elseif epoch and held == 0 and oldest <= newest then  -- Redis evicted it
  oldest, size, changed = newest + 1, 0, true
end

-- Whether this script may write. Redis may refuse all writes (a full disk, a replica). It asks for
-- memory only before the first, and not for this one, which changes nothing.
local answer
local function mayWrite()
  answer = answer or redis.pcall('HDEL', meta, '')
  return type(answer) ~= 'table'
end

-- Let the keys live on; of an ended channel no longer than they would, but for those who follow.
local function stay()
  local ms = keep
  if ended then
    ms = tonumber(endKeep)
    if ms > 0 then ms = math.max(ended + ms - now, ms - afterEnd) end
  end
  for _, name in ipairs({{log, meta}}) do
    if ms > 0 then redis.call('PEXPIRE', name, print(ms)) else redis.call('PERSIST', name) end
  end
end

local function save()
  redis.call('HSET', meta, 'epoch', epoch, 'newest', print(newest), 'oldest', print(oldest),
             'size', print(size), 'run', run, 'past', past, 'used', print(used),
             'born', print(born), 'ended', ended and print(ended) or '')
end

-- What has changed without an append, of a channel that is there; if it may be written. If not, it
-- is found out again, and what is there can be read all the same.
local function settle()
  if run ~= server and mayWrite() then renew() end
  if changed and mayWrite() then
    save()
    stay()
    changed = false
  end
end

-- Let go of the oldest; true if there was something to let go of. An append leaves most of what is
-- old to the next, for looking at an entry costs as much as appending one.
local function trim(isAppend)
  local first = oldest
  if ended then  -- nothing grows old by itself any more
    local ms = tonumber(afterEnd)
    if ms == 0 or now - ended <= ms or oldest > newest then return false end
    if mayWrite() then redis.call('UNLINK', log) end
    oldest, size = newest + 1, 0
    return true
  end
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
  if oldest > first and mayWrite() then
    redis.call('XTRIM', log, 'MINID', print(oldest) .. '-0')
  end
  return oldest > first
end
"""

# ARGV 9-14: key or '', text, event, sender or '', 1 if it is the last, traceparent or ''.
# Gives epoch, offset, and the first message if it was a repetition and is still held; nothing if
# the channel has ended.
APPEND = Script.of(
    _OPEN,
    f"""
local window, key, text, event, sender = tonumber(ARGV[8]), ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local isLast, trace = ARGV[13] == '1', ARGV[14]
if not epoch then
  epoch, newest, oldest, size, run, past, used = ARGV[1], 0, 1, 0, server, '', 0
  born, changed = now, true
  if redis.call('EXISTS', log, keys, order) > 0 then  -- the rest of a life that was evicted
    redis.call('DEL', log, keys, order)
    born = 0
  end
end
if key ~= '' then
  local seen = redis.call('HGET', keys, key)
  local offset, since = string.match(seen or '', '(%d+):(%d+)')
  if offset and now - tonumber(since) <= window then
    settle()
    return {{epoch, offset, redis.call('XRANGE', log, offset .. '-0', offset .. '-0')}}
  end
end
if ended then
  settle()
  return {{}}
end
if run ~= server then renew() end

-- What may fail comes before what cannot be taken back. Redis asks for memory, a disk and replicas
-- before the first write, so this one, which changes nothing. An announcement may be forbidden.
redis.call('ZADD', order, 'XX', 0, '')
local said = epoch .. '-' .. print(newest + 1)
if #text <= {CARRIED} then
  local about = {{event, sender, key}}
  if trace ~= '' then about[4] = trace end
  said = said .. ' ' .. cjson.encode(about) .. '\\n' .. text
end
redis.call('PUBLISH', log, said)
local entry = {{'t', print(now), 'd', text}}
local function add(name, value) entry[#entry + 1] = name entry[#entry + 1] = value end
if event ~= 'message' then add('e', event) end
if sender ~= '' then add('s', sender) end
if key ~= '' then add('k', key) end
if trace ~= '' then add('p', trace) end
local renew = oldest > newest or (keep > 0 and now - used > keep / 8)
redis.call('XADD', log, print(newest + 1) .. '-0', unpack(entry))
newest, size = newest + 1, size + #text
trim(not isLast)
if isLast then ended = now end
if changed or renew or isLast then
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

# ARGV 9-12: epoch and offset of the position, messages and bytes at most.
# Gives epoch, offset before the first entry, 2 if there is a gap (behind a mark perhaps 1, one that
# is not sure), newest, entries, 1 if the channel has ended. Behind a gap it goes on with the oldest
# held, or where the position's epoch ended: what it saw before is the same.
READ = Script.of(
    _OPEN,
    """
local from, offset = ARGV[9], tonumber(ARGV[10])
local limit, bytes = tonumber(ARGV[11]), tonumber(ARGV[12])
if not epoch then
  local gap = isWhole(from, offset, now) and 0 or from == NONE and 1 or 2
  return {NONE, print(now), gap, print(now), {}, 0}
end
settle()
if isWhole(from, offset, born) then from, offset = epoch, 0 end
local entries, gap = {}, 0
if epoch ~= from or offset ~= newest then
  changed = trim() or changed
  local good, same = epoch == from and newest or -1, 0
  for name, reach in string.gmatch(past, '(%w+):(%d+)') do
    if name == from then good, same = tonumber(reach), tonumber(reach) end
  end
  if offset > good or offset + 1 < oldest then
    gap, offset = 2, math.max(same < offset and same or 0, oldest - 1)
    if from == NONE and born > 0 then gap = 1 end
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
settle()
return {epoch, print(offset), gap, print(newest), entries, ended and 1 or 0}
""",
)

# ARGV 9: messages. Gives the position before so many, or a mark.
TAIL = Script.of(
    _OPEN,
    "if not epoch then return {NONE, print(now)} end",
    "changed = trim() or changed",
    "settle()",
    "return {epoch, print(math.max(newest - tonumber(ARGV[9]), oldest - 1))}",
)

# Lets go of all messages. Gives how many there were.
PRUNE = Script.of(
    _OPEN,
    """
if not epoch or oldest > newest then return 0 end
local refused = redis.pcall('HDEL', meta, '')
if type(refused) == 'table' then return refused end
if run ~= server then renew() end
redis.call('UNLINK', log)
oldest, size = newest + 1, 0
save()
stay()
return held
""",
)

# For a channel that is followed: keeps it, if it is there. ARGV: ms that it is kept (0: for ever),
# ms that it is kept at least if it has ended, and ms that a channel lives at least. Gives its head,
# printed as a position; where there is no channel, something that changes before a mark given
# meanwhile grows too old.
TOUCH = Script.of(
    f"""
local keep, m = tonumber(ARGV[1]), redis.call('HMGET', KEYS[2], 'epoch', 'newest', 'ended')
if not m[1] then
  local least = tonumber(ARGV[3])
  local quarters = least > 0 and math.floor(redis.call('TIME')[1] * 4000 / least) or 0
  return string.format('{NONE}-%.0f', quarters)
end
if tonumber(m[3]) then
  local left = redis.call('PTTL', KEYS[2])
  keep = left >= 0 and math.max(left, ARGV[2]) or 0
end
if keep > 0 then
  redis.call('PEXPIRE', KEYS[1], keep)
  redis.call('PEXPIRE', KEYS[2], keep)
end
return m[1] .. '-' .. m[2]
"""
)

# Proves that the server can be written to.
CHECK = Script.of("return redis.call('SET', KEYS[1], '1', 'PX', '60000')")
