"""What presence does in Redis in one step each.

A route is `<node> -> <boot>` in the hash `imconnect:user:<user>`; it counts only while `imconnect:boot:<node>`, which
is a lease, holds that boot. `imconnect:here:<node>:<boot>` are the users of that life, so that somebody can tidy up
after it. In profile xzll the two hashes of the Java services (contract/gateway.md 6.2) are kept beside it; what goes
into them is encoded by the caller. The keys of other nodes are made from data: one Redis server, not a cluster.
"""

from __future__ import annotations

#: KEYS: routes of the user, users here, [server hash, status hash]. ARGV: user, node, boot, seconds, [uid, address,
#: status]. -> turn, then the other live nodes.
ENTER = """
local answer = {redis.call('INCR', 'imconnect:turn')}
local routes = redis.call('HGETALL', KEYS[1])
for i = 1, #routes, 2 do
  if routes[i] ~= ARGV[2] then
    if redis.call('GET', 'imconnect:boot:' .. routes[i]) == routes[i + 1] then
      answer[#answer + 1] = tonumber(routes[i])
    else
      redis.call('HDEL', KEYS[1], routes[i])
    end
  end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('SADD', KEYS[2], ARGV[1])
if KEYS[3] then
  redis.call('HSET', KEYS[3], ARGV[5], ARGV[6])
  redis.call('HSET', KEYS[4], ARGV[5], ARGV[7])
end
redis.call('PUBLISH', 'imconnect:routes', ARGV[1] .. ' ' .. ARGV[2])
return answer
"""

#: The same keys and arguments. A route of another life stays; the Java hashes show another live node, if there is one.
LEAVE = """
redis.call('SREM', KEYS[2], ARGV[1])
if redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[3] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[2])
if KEYS[3] and redis.call('HGET', KEYS[3], ARGV[5]) == ARGV[6] then
  local routes = redis.call('HGETALL', KEYS[1])
  local address = false
  for i = 1, #routes, 2 do
    if redis.call('GET', 'imconnect:boot:' .. routes[i]) == routes[i + 1] then
      address = redis.call('GET', 'imconnect:java:' .. routes[i]) or address
    end
  end
  if address then
    redis.call('HSET', KEYS[3], ARGV[5], address)
  else
    redis.call('HDEL', KEYS[3], ARGV[5])
    redis.call('HDEL', KEYS[4], ARGV[5])
  end
end
redis.call('PUBLISH', 'imconnect:routes', ARGV[1] .. ' ' .. ARGV[2])
return 1
"""

#: KEYS: routes of users. -> for each its live nodes.
ROUTES = """
local alive = {}
local answer = {}
for k = 1, #KEYS do
  local routes = redis.call('HGETALL', KEYS[k])
  local nodes = {}
  for i = 1, #routes, 2 do
    local node = routes[i]
    if alive[node] == nil then
      alive[node] = redis.call('GET', 'imconnect:boot:' .. node)
    end
    if alive[node] == routes[i + 1] then
      nodes[#nodes + 1] = tonumber(node)
    end
  end
  answer[k] = nodes
end
return answer
"""

#: KEYS: lease, owner, Java address. ARGV: boot, owner, lease in ms, Java address ('' for none), member of
#: imconnect:lives, card. -> {'taken', owner}, {'new'}, or {'held'} where the lease still ran. Whoever owns the node id
#: takes it over from an earlier life of his own at once.
REGISTER = """
local boot = redis.call('GET', KEYS[1])
local owner = redis.call('GET', KEYS[2])
if boot and boot ~= ARGV[1] and owner and owner ~= ARGV[2] then
  return {'taken', owner}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
if ARGV[4] ~= '' then
  redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[3])
end
redis.call('HSET', 'imconnect:lives', ARGV[5], ARGV[6])
if boot == ARGV[1] then
  return {'held'}
end
return {'new'}
"""

#: The same keys. ARGV: boot, member of imconnect:lives.
UNREGISTER = """
redis.call('HDEL', 'imconnect:lives', ARGV[2])
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
end
return 1
"""
