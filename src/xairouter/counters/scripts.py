"""The Lua programs of the Valkey driver: each one atomic, for all counters of a call together.

Keys of an owner share a hash tag, so that they live in one slot::

    {xr:<owner>}:c:<counter>   hash: ``init``, generation, a number for each bucket or ``p`` and ``v``
                               and ``x``, how often a call in it was corrected
                               sorted set for calls under way: call → when its lease lapses
    {xr:<owner>}:e:<counter>   set: calls that ended while the counter's past was read
    {xr:<owner>}:r:<call>      hash: what a call reserved where, and whether it is settled
    {xr:<owner>}:leases        sorted set: call → when its reservation lapses
    {xr:<owner>}:late          hash: calls that ended and of which nothing was known here → where they count
    {xr:<owner>}:g             which generation the owner's reservations are of
    xr:generation              hash: which generation the server's data are of, and when an instance
                               looked last (generation.py)

Kinds of a counter are ``s`` sliding, ``p`` a calendar period, ``e`` ever, ``n`` under way; units are
``R`` requests, ``T`` tokens, ``M`` money, ``N`` under way. Time is the server's unless a test gives
its own.
"""

from collections.abc import Mapping

_HEAD = """
local tag = KEYS[1]
local function clock(given)
  if tonumber(given) > 0 then return tonumber(given) end
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
local function counter(name) return tag .. ':c:' .. name end
local function is_of(key, init, generation)
  local found = redis.call('HMGET', key, 'init', 'g')
  return found[1] == init and found[2] == generation
end
local function ends(name, call)
  redis.call('SADD', tag .. ':e:' .. name, call)
  redis.call('PEXPIRE', tag .. ':e:' .. name, 600000)
end
local function add(entry, amount)
  if amount == 0 then return end
  local key = counter(entry.c)
  if entry.k == 's' then
    redis.call('HINCRBY', key, entry.b, amount)
  elseif entry.k == 'p' then
    if redis.call('HGET', key, 'p') == entry.b then redis.call('HINCRBY', key, 'v', amount) end
  elseif entry.k == 'e' then
    redis.call('HINCRBY', key, 'v', amount)
  end
end
local function entries(call)
  local found = redis.call('HGET', tag .. ':r:' .. call, 'entries')
  return found and cjson.decode(found) or {}
end
local function lapse(now)
  for _, call in ipairs(redis.call('ZRANGEBYSCORE', tag .. ':leases', '-inf', now, 'LIMIT', 0, 20)) do
    if redis.call('HGET', tag .. ':r:' .. call, 'state') == 'open' then
      for _, entry in ipairs(entries(call)) do add(entry, -tonumber(entry.a)) end
      redis.call('HSET', tag .. ':r:' .. call, 'state', 'lapsed')
    end
    redis.call('ZREM', tag .. ':leases', call)
  end
end
"""

RESERVE = (
    _HEAD
    + """
-- ARGV: now, call, lease, keep, purpose (0 reserve, 1 look, 2 adopt what was admitted), generation,
-- whether it may become the owner's, then for each demand:
--       counter, kind, unit, bucket length, limit, amount, period's start, period's end
local now, call, lease = clock(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local looks, adopts = ARGV[5] == '1', ARGV[5] == '2'
if not adopts and redis.call('GET', tag .. ':g') ~= ARGV[6] then
  if ARGV[7] ~= '1' then return {'lost', now} end
  redis.call('SET', tag .. ':g', ARGV[6])
end
lapse(now)
local demands, need = {}, {}
for at = 8, #ARGV, 8 do
  local d = {c = ARGV[at], k = ARGV[at + 1], u = ARGV[at + 2], len = tonumber(ARGV[at + 3]),
    limit = tonumber(ARGV[at + 4]), a = tonumber(ARGV[at + 5]),
    from = tonumber(ARGV[at + 6]), to = tonumber(ARGV[at + 7])}
  local key = counter(d.c)
  if d.k == 'n' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    d.used = redis.call('ZCARD', key)
  elseif d.k == 'p' and (now < d.from or now >= d.to) then
    return {'time', now}
  elseif not is_of(key, 'done', ARGV[6]) then
    need[#need + 1] = #demands
  elseif d.k == 's' then
    d.cur, d.used, d.parts = math.floor(now / d.len), 0, {}
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      local bucket = tonumber(all[i])
      if bucket then
        if bucket < d.cur - 60 then
          redis.call('HDEL', key, all[i])
        else
          d.used = d.used + tonumber(all[i + 1])
          d.parts[#d.parts + 1] = {bucket, tonumber(all[i + 1])}
        end
      end
    end
    table.sort(d.parts, function(x, y) return x[1] < y[1] end)
    d.b = tostring(d.cur)
  elseif d.k == 'p' then
    d.b = string.format('%.0f', d.from)
    if redis.call('HGET', key, 'p') ~= d.b then redis.call('HSET', key, 'p', d.b, 'v', 0) end
    d.used = tonumber(redis.call('HGET', key, 'v'))
  else
    d.used, d.b = tonumber(redis.call('HGET', key, 'v') or '0'), '0'
  end
  demands[#demands + 1] = d
end
if #need > 0 then return {'need', unpack(need)} end
local answer = {}
local refused, wakes = false, now
for _, d in ipairs(demands) do
  local fits, at = d.used + d.a <= d.limit, now
  if not fits then
    refused = true
    if d.a > d.limit or d.k == 'e' then at = -1
    elseif d.k == 'n' then at = now + 1000
    elseif d.k == 'p' then at = d.to
    else
      local over = d.used + d.a - d.limit
      at = -1
      for _, part in ipairs(d.parts) do
        over = over - part[2]
        if over <= 0 then at = (part[1] + 61) * d.len break end
      end
    end
    if at < 0 or wakes < 0 then wakes = -1 elseif at > wakes then wakes = at end
  end
  local whole = now
  if d.k == 's' then
    local newest = d.cur
    if #d.parts > 0 and d.a == 0 then newest = d.parts[#d.parts][1] end
    whole = (newest + 61) * d.len
  elseif d.k == 'p' then whole = d.to end
  answer[#answer + 1] = {fits and 1 or 0, string.format('%.0f', d.used), string.format('%.0f', whole)}
end
if looks then return {'looked', now, answer} end
if refused and not adopts then return {'no', now, string.format('%.0f', wakes), answer} end
local place = tag .. ':r:' .. call
local known = redis.call('HGET', place, 'state')
if adopts and (known == 'open' or known == 'done') then return {'ok', now, answer} end
local kept = {}
for _, d in ipairs(demands) do
  local key = counter(d.c)
  local entry = {c = d.c, k = d.k, u = d.u, b = d.b or '0', a = string.format('%.0f', d.a)}
  if d.k == 'n' then
    redis.call('ZADD', key, now + lease, call)
    redis.call('PEXPIRE', key, 86400000)
  else
    add(entry, d.a)
    if d.k == 's' then redis.call('PEXPIRE', key, d.len * 200) end
  end
  kept[#kept + 1] = entry
end
redis.call('HSET', place, 'state', 'open', 'entries', cjson.encode(kept))
redis.call('PEXPIRE', place, ARGV[4])
redis.call('ZADD', tag .. ':leases', now + lease, call)
return {'ok', now, answer}
"""
)

SETTLE = (
    _HEAD
    + """
-- ARGV: call, requests, tokens, money, whether it counts although nothing is known of it here, then
-- for each further counter that the call concerns: counter, kind, unit, bucket
-- Answers 2 where nothing is known of it.
local call = ARGV[1]
local used = {R = tonumber(ARGV[2]), T = tonumber(ARGV[3]), M = tonumber(ARGV[4]), N = 0}
local place = tag .. ':r:' .. call
local state = redis.call('HGET', place, 'state')
if state == 'done' then return 0 end
if not state and ARGV[5] ~= '1' then return 2 end
local seen, late = {}, {}
for _, entry in ipairs(entries(call)) do
  seen[entry.c] = true
  if entry.k == 'n' then
    redis.call('ZREM', counter(entry.c), call)
  else
    add(entry, used[entry.u] - (state == 'open' and tonumber(entry.a) or 0))
    -- The records that are being read may have it already.
    if redis.call('HGET', counter(entry.c), 'init') == 'loading' then ends(entry.c, call) end
  end
end
for at = 6, #ARGV, 4 do
  local entry = {c = ARGV[at], k = ARGV[at + 1], u = ARGV[at + 2], b = ARGV[at + 3]}
  local init = redis.call('HGET', counter(entry.c), 'init')
  if not state then
    -- Whether the records that were read had it is not known: they are read anew, without it.
    entry.a = string.format('%.0f', used[entry.u])
    late[#late + 1] = entry
    if init == 'done' then redis.call('DEL', counter(entry.c)) init = false end
  end
  if not seen[entry.c] and init then
    add(entry, used[entry.u])
    if init ~= 'done' then ends(entry.c, call) end
  end
end
if #late > 0 then
  redis.call('HSET', tag .. ':late', call, cjson.encode(late))
  redis.call('PEXPIRE', tag .. ':late', 172800000)
end
redis.call('HSET', place, 'state', 'done')
redis.call('PEXPIRE', place, 3600000)
redis.call('ZREM', tag .. ':leases', call)
return 1
"""
)

CORRECT = (
    _HEAD
    + """
-- ARGV: call, its tokens and money as they are now, how much more they are than before, then for
-- each counter that the call concerns: counter, kind, unit, bucket
local now = {T = tonumber(ARGV[2]), M = tonumber(ARGV[3])}
local more = {T = tonumber(ARGV[4]), M = tonumber(ARGV[5])}
for at = 6, #ARGV, 4 do
  local entry = {c = ARGV[at], k = ARGV[at + 1], u = ARGV[at + 2], b = ARGV[at + 3]}
  local init = redis.call('HGET', counter(entry.c), 'init')
  local ended = tag .. ':e:' .. entry.c
  if init then redis.call('HINCRBY', counter(entry.c), 'x', 1) end
  if init == 'done' or (init and redis.call('SISMEMBER', ended, ARGV[1]) == 1) then
    add(entry, more[entry.u])
  elseif init then
    -- The records that are being read may say the one or the other.
    add(entry, now[entry.u])
    redis.call('SADD', ended, ARGV[1])
    redis.call('PEXPIRE', ended, 600000)
  end
end
return 1
"""
)

BEGIN = (
    _HEAD
    + """
-- ARGV: counter, kind, period's start, generation. 1: read its past; 0: it is there; 2: somebody
-- reads it.
local key = counter(ARGV[1])
local now = clock(0)
if is_of(key, 'done', ARGV[4]) then return 0 end
local at = tonumber(redis.call('HGET', key, 'at') or '0')
if is_of(key, 'loading', ARGV[4]) and now - at < 10000 then return 2 end
redis.call('DEL', key, tag .. ':e:' .. ARGV[1])
redis.call('HSET', key, 'init', 'loading', 'at', now, 'g', ARGV[4])
if ARGV[2] == 'p' then redis.call('HSET', key, 'p', ARGV[3], 'v', 0) end
for _, call in ipairs(redis.call('ZRANGE', tag .. ':leases', 0, -1)) do
  if redis.call('HGET', tag .. ':r:' .. call, 'state') == 'open' then
    for _, entry in ipairs(entries(call)) do
      if entry.c == ARGV[1] then add(entry, tonumber(entry.a)) end
    end
  end
end
local late = redis.call('HGETALL', tag .. ':late')
for i = 1, #late, 2 do
  for _, entry in ipairs(cjson.decode(late[i + 1])) do
    if entry.c == ARGV[1] then
      add(entry, tonumber(entry.a))
      ends(entry.c, late[i])
    end
  end
end
return 1
"""
)

FILL = (
    _HEAD
    + """
-- ARGV: counter, kind, count of calls that are known to have ended, generation, then bucket, amount, …
-- Answers the calls that ended meanwhile if there are others than those known.
local ended = redis.call('SMEMBERS', tag .. ':e:' .. ARGV[1])
if #ended ~= tonumber(ARGV[3]) then return ended end
local key = counter(ARGV[1])
if not is_of(key, 'loading', ARGV[4]) then return {} end
for at = 5, #ARGV, 2 do
  if ARGV[2] == 's' then redis.call('HINCRBY', key, ARGV[at], ARGV[at + 1])
  else redis.call('HINCRBY', key, 'v', ARGV[at + 1]) end
end
redis.call('HSET', key, 'init', 'done')
redis.call('HDEL', key, 'at')
redis.call('DEL', tag .. ':e:' .. ARGV[1])
return {}
"""
)

RENEW = (
    _HEAD
    + """
-- ARGV: now, lease, then calls that are still under way.
local now, lease = clock(ARGV[1]), tonumber(ARGV[2])
for at = 3, #ARGV do
  local call = ARGV[at]
  if redis.call('HGET', tag .. ':r:' .. call, 'state') == 'open' then
    redis.call('ZADD', tag .. ':leases', now + lease, call)
    for _, entry in ipairs(entries(call)) do
      if entry.k == 'n' then redis.call('ZADD', counter(entry.c), now + lease, call) end
    end
  end
end
return 1
"""
)

GENERATION = (
    _HEAD
    + """
-- ARGV: the next generation, now. Answers the one that is, and its age.
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local now = clock(ARGV[2])
local found = redis.call('HMGET', tag, 'id', 'run', 'at', 'seen')
local seen = tonumber(found[4] or now)
-- What has left its window by a wrong clock is gone when the clock is right again.
local jumped = now < seen - 5000 or now > seen + 3600000
if not found[1] or found[2] ~= run or jumped then
  found = {ARGV[1], run, string.format('%.0f', now)}
  redis.call('HSET', tag, 'id', found[1], 'run', found[2], 'at', found[3])
end
redis.call('HSET', tag, 'seen', string.format('%.0f', now))
return {found[1], now - tonumber(found[3])}
"""
)

STAND = (
    _HEAD
    + """
-- ARGV: generation, most calls under way that are looked at, then for each counter: counter, kind,
-- period's start, mark, least: with a mark, what has ended is raised to no less than this.
-- Answers for each {mark, what has ended, by how much it was raised}, or {} where there is none.
local calls = redis.call('ZRANGE', tag .. ':leases', 0, tonumber(ARGV[2]))
if #calls > tonumber(ARGV[2]) then return {} end
local found, answer = {}, {}
for at = 3, #ARGV, 5 do
  local key = counter(ARGV[at])
  local one = {}
  if is_of(key, 'done', ARGV[1]) then
    local kept = redis.call('HMGET', key, 'p', 'v', 'x')
    if ARGV[at + 1] ~= 'p' or kept[1] == ARGV[at + 2] then
      one = {b = ARGV[at + 2], v = tonumber(kept[2] or '0'), x = kept[3] or '0'}
      found[ARGV[at]] = one
    end
  end
  answer[#answer + 1] = one
end
for _, call in ipairs(calls) do
  if redis.call('HGET', tag .. ':r:' .. call, 'state') == 'open' then
    for _, entry in ipairs(entries(call)) do
      local one = found[entry.c]
      if one and (entry.k == 'e' or entry.b == one.b) then one.v = one.v - tonumber(entry.a) end
    end
  end
end
for place, one in ipairs(answer) do
  if one.v then
    local at = 3 + (place - 1) * 5
    local mark, more = one.b .. '/' .. one.x, 0
    if ARGV[at + 3] == mark and tonumber(ARGV[at + 4]) > one.v then
      more = tonumber(ARGV[at + 4]) - one.v
      redis.call('HINCRBY', counter(ARGV[at]), 'v', string.format('%.0f', more))
    end
    answer[place] = {mark, string.format('%.0f', one.v), string.format('%.0f', more)}
  end
end
return answer
"""
)

BY_NAME: Mapping[str, str] = {
    "GENERATION": GENERATION,
    "RESERVE": RESERVE,
    "SETTLE": SETTLE,
    "CORRECT": CORRECT,
    "BEGIN": BEGIN,
    "FILL": FILL,
    "RENEW": RENEW,
    "STAND": STAND,
}
