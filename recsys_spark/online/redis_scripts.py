"""The atomic steps of the online store on Redis, in Lua: a script runs whole, with nothing between.

Keys, all behind a prefix p: hash `serving` (number, content, model, loader) · hash `models` (number to model) · hash
`user:NUMBER:ID` (index, history, list, vectors) · set `members:NUMBER` · set `generations` · hash `live:ID` (event id
to event) · hash `ledger` (event id to state and user; states as in `sqlite_schema`) · sorted sets `arrivals` (event
ids) and `seen` (users) by time of arrival · hash `counts` · hash `parameters` (version, content) · sorted set
`batches:STREAM`.

Scripts make key names from ids, which a Redis Cluster does not allow: one server, or one with replicas.
"""

USERS = """
local p = ARGV[1]
local serving = redis.call('HMGET', p..'serving', 'number', 'content')
local found = {serving[2]}
for i = 2, #ARGV do
  local row = redis.call('HMGET', p..'user:'..(serving[1] or '0')..':'..ARGV[i], 'index', 'history', 'list', 'vectors')
  found[i] = {row, redis.call('HVALS', p..'live:'..ARGV[i])}
end
return found
"""
"""Of each id the row and the live events, behind the publication."""

_READ = """
local function texts(body)
  local found, at = {}, 1
  while at <= #body do
    local size = struct.unpack('<I4', body, at)
    found[#found + 1] = string.sub(body, at + 4, at + 3 + size)
    at = at + 4 + size
  end
  return found
end
"""
"""Many texts of one argument, each behind its length."""

ACCEPT = (
    _READ
    + """
local p, now = ARGV[1], ARGV[2]
local new = {}
for a = 3, #ARGV do
  local told = texts(ARGV[a])
  for i = 1, #told, 3 do
    local id, user = told[i], told[i + 1]
    local isnew = redis.call('HSETNX', p..'ledger', id, '0'..user)
    if isnew == 1 then
      redis.call('HSET', p..'live:'..user, id, told[i + 2])
      redis.call('ZADD', p..'arrivals', now, id)
      redis.call('ZADD', p..'seen', 'GT', now, user)
    end
    new[#new + 1] = isnew
  end
end
return new
"""
)
"""Of each event (id, user, content), in arguments of whole events, whether it is new."""

COMMIT = (
    _READ
    + """
local p, stream, batch, kept, publication, now = unpack(ARGV, 1, 6)
local batches, at = p..'batches:'..stream, 7
local newest = redis.call('ZRANGE', batches, -1, -1)[1]
if newest and tonumber(batch) <= tonumber(newest) - tonumber(kept) then return 0 end
if redis.call('ZADD', batches, 'NX', batch, batch) == 0 then return 0 end
redis.call('ZREMRANGEBYSCORE', batches, '-inf', tonumber(batch) - tonumber(kept))
local function each(width, act)
  local last = at + tonumber(ARGV[at])
  for a = at + 1, last do
    local told = texts(ARGV[a])
    for i = 1, #told, width do act(told[i], told[i + 1], told[i + 2]) end
  end
  at = last + 1
end
each(3, function(id, user, content)
  local old = redis.call('HGET', p..'ledger', id)
  redis.call('ZADD', p..'seen', 'GT', now, user)
  if old and string.sub(old, 1, 1) ~= '0' then return end
  if old then redis.call('HDEL', p..'live:'..string.sub(old, 2), id)
  else redis.call('ZADD', p..'arrivals', now, id) end
  redis.call('HSET', p..'ledger', id, '1'..user)
  redis.call('HSET', p..'live:'..user, id, content)
end)
each(1, function(id)
  local old = redis.call('HGET', p..'ledger', id)
  if old and string.sub(old, 1, 1) == '0' then
    redis.call('HDEL', p..'live:'..string.sub(old, 2), id)
    redis.call('HSET', p..'ledger', id, '2'..string.sub(old, 2))
  end
end)
local serving = redis.call('HMGET', p..'serving', 'number', 'model')
local current = serving[1] == publication
each(3, function(user, list, vectors)
  if not current then return end
  local key = p..'user:'..publication..':'..user
  if list ~= '' then
    redis.call('HSET', key, 'list', list)
    redis.call('HDEL', key, 'vectors')
  end
  if vectors ~= '' then redis.call('HSET', key, 'vectors', vectors) end
  redis.call('SADD', p..'members:'..publication, user)
end)
local model = redis.call('HGET', p..'models', publication)
local same = model and model == serving[2]
each(2, function(item, count) if same then redis.call('HSET', p..'counts', item, count) end end)
each(1, function(content)
  if not same then return end
  redis.call('HINCRBY', p..'parameters', 'version', 1)
  redis.call('HSET', p..'parameters', 'content', content)
end)
return 1
"""
)
"""Portions, each behind the number of its arguments, which hold whole rows: events (id, user, content), accepted ids,
lists (user, list, vectors), counts (item, count), parameters."""

BEGIN = """
local p, number, loader = unpack(ARGV)
local serving = redis.call('HGET', p..'serving', 'number') or '0'
if tonumber(serving) + 1 == tonumber(number) then redis.call('HSET', p..'serving', 'loader', loader) end
return tonumber(serving)
"""
"""Take the right to load; returns the number that serves."""

LOAD = """
local p, number, loader = unpack(ARGV, 1, 3)
if redis.call('HGET', p..'serving', 'loader') ~= loader then return 0 end
redis.call('SADD', p..'generations', number)
for i = 4, #ARGV, 5 do
  local key = p..'user:'..number..':'..ARGV[i]
  local index = redis.call('HGET', key, 'index')
  if not index or tonumber(index) < tonumber(ARGV[i + 1]) then redis.call('HSET', key, 'index', ARGV[i + 1]) end
  for n, name in ipairs({'history', 'list', 'vectors'}) do
    if ARGV[i + 1 + n] ~= '' then redis.call('HSET', key, name, ARGV[i + 1 + n]) end
  end
  redis.call('SADD', p..'members:'..number, ARGV[i])
end
return 1
"""
"""Users (id, index, history, list, vectors) of a number that nobody reads yet; 0 where another loader came."""

SWITCH = """
local p, number, loader, content, model = unpack(ARGV)
if redis.call('HGET', p..'serving', 'loader') ~= loader then return 0 end
local before = redis.call('HGET', p..'serving', 'model')
redis.call('HSET', p..'serving', 'number', number, 'content', content, 'model', model, 'loader', '')
redis.call('HSET', p..'models', number, model)
redis.call('SADD', p..'generations', number)
if before and before ~= model then
  redis.call('DEL', p..'counts')
  redis.call('HDEL', p..'parameters', 'content')
end
return 1
"""
"""Let the number serve; 0 where another loader came."""

SWEEP = """
local p, keep, portion = unpack(ARGV)
if (redis.call('HGET', p..'serving', 'number') or '0') ~= keep then return 0 end
for _, number in ipairs(redis.call('SMEMBERS', p..'generations')) do
  if number ~= keep then
    local users = redis.call('SPOP', p..'members:'..number, portion)
    for _, user in ipairs(users) do redis.call('UNLINK', p..'user:'..number..':'..user) end
    if #users == 0 then redis.call('SREM', p..'generations', number) end
    return 1
  end
end
return 0
"""
"""Remove a portion of what is not of the number that serves; 0 where nothing is left."""

FORGET = """
local p, number, cut, fresh = unpack(ARGV, 1, 4)
if (redis.call('HGET', p..'serving', 'number') or '0') ~= number then return -1 end
local gone = 0
for i = 5, #ARGV do
  local user = ARGV[i]
  local key, live = p..'user:'..number..':'..user, p..'live:'..user
  local seen = redis.call('ZSCORE', p..'seen', user)
  local kept = fresh == '1' and redis.call('HEXISTS', key, 'history') == 1
  if not kept and not (seen and tonumber(seen) >= tonumber(cut)) then
    for _, id in ipairs(redis.call('HKEYS', live)) do
      redis.call('HDEL', p..'ledger', id)
      redis.call('ZREM', p..'arrivals', id)
    end
    redis.call('UNLINK', key, live)
    redis.call('SREM', p..'members:'..number, user)
    redis.call('ZREM', p..'seen', user)
    gone = gone + 1
  end
end
return gone
"""
"""Drop those users whose time is over; -1 where another number serves."""

FORGET_EVENTS = """
local p, as_of = ARGV[1], tonumber(ARGV[2])
local gone = 0
for i = 3, #ARGV do
  local entry = redis.call('HGET', p..'ledger', ARGV[i]) or '2'
  local state, live = string.sub(entry, 1, 1), p..'live:'..string.sub(entry, 2)
  local over = state == '2'
  if state == '1' then
    local event = redis.call('HGET', live, ARGV[i])
    over = not event or cjson.decode(event)[4] < as_of
  end
  if over then
    redis.call('HDEL', live, ARGV[i])
    redis.call('HDEL', p..'ledger', ARGV[i])
    redis.call('ZREM', p..'arrivals', ARGV[i])
    gone = gone + 1
  end
end
return gone
"""
"""Drop those events that are refused, or committed and older than the batch."""
