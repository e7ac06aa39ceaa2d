"""Slowness to plant, by kind, for reviews of performance; `reviewer_plants` has the notation.

Most probes count operations: comparisons, queries, calls, sleeps. Times would measure the machine.
"""

from evaluator.suites.built_in.reviewer_plants import Kind

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "quadratic-membership",
            "performance",
            "high",
            "CWE-407",
            (
                "list membership",
                "linear membership test",
                "linear search in loop",
                "membership test in a list",
            ),
        ),
        Kind(
            "nested-loop-join",
            "performance",
            "high",
            "CWE-407",
            ("quadratic join", "nested loop", "quadratic loop", "O(n^2)"),
        ),
        Kind(
            "n-plus-one-queries",
            "performance",
            "high",
            "CWE-1050",
            ("n+1", "query in loop", "query per row"),
        ),
        Kind(
            "string-building",
            "performance",
            "medium",
            "CWE-1046",
            ("string concatenation", "quadratic concatenation", "concatenation in loop"),
        ),
        Kind(
            "repeated-regex-compile",
            "performance",
            "low",
            "",
            ("regex compile in loop", "recompiled pattern", "regex compilation"),
        ),
        Kind(
            "needless-copy",
            "performance",
            "medium",
            "",
            ("unnecessary copy", "copy in loop", "redundant copy", "deepcopy"),
        ),
        Kind(
            "wrong-queue",
            "performance",
            "medium",
            "",
            ("pop from front", "list pop 0", "list as queue", "insert at front", "deque"),
        ),
        Kind(
            "unbounded-cache",
            "performance",
            "high",
            "CWE-401",
            ("memory leak", "cache without limit", "unbounded growth"),
        ),
        Kind(
            "blocking-call-in-async",
            "performance",
            "high",
            "CWE-1322",
            ("blocking event loop", "blocking call", "blocks the loop"),
        ),
        Kind(
            "sequential-await",
            "performance",
            "medium",
            "",
            ("await in loop", "serial awaits", "not concurrent"),
        ),
        Kind(
            "missing-index-use",
            "performance",
            "high",
            "CWE-1067",
            ("full table scan", "index not used", "missing index", "non sargable"),
        ),
        Kind(
            "select-everything",
            "performance",
            "medium",
            "",
            (
                "overfetching",
                "select star",
                "fetch all rows",
                "unneeded columns",
                "filter in python",
            ),
        ),
        Kind(
            "repeated-sort",
            "performance",
            "medium",
            "CWE-407",
            ("sort in loop", "sorting in a loop", "sorting repeatedly"),
        ),
        Kind(
            "repeated-computation",
            "performance",
            "medium",
            "",
            ("loop invariant", "recomputed value", "hoist", "redundant computation"),
        ),
        Kind(
            "missing-memoization",
            "performance",
            "high",
            "",
            ("exponential recursion", "memoization", "overlapping subproblems"),
        ),
        Kind(
            "whole-file-read",
            "performance",
            "medium",
            "",
            ("reads whole file", "load entire file", "memory use", "readlines"),
        ),
        Kind(
            "unbuffered-write",
            "performance",
            "medium",
            "",
            ("flush in loop", "open in loop", "file reopened", "write per row", "fsync"),
        ),
        Kind(
            "commit-per-row",
            "performance",
            "high",
            "",
            ("commit in loop", "transaction per row", "row by row insert"),
        ),
        Kind(
            "connection-per-call",
            "performance",
            "high",
            "CWE-1072",
            (
                "new connection",
                "connection per request",
                "no connection pool",
                "session per request",
                "no pooling",
            ),
        ),
        Kind(
            "list-for-aggregate",
            "performance",
            "low",
            "",
            ("materialised list", "needless list", "intermediate list", "temporary list"),
        ),
        Kind(
            "full-sort-for-few",
            "performance",
            "medium",
            "",
            ("sort for minimum", "sort for top", "nlargest", "full sort"),
        ),
        Kind(
            "repeated-scan",
            "performance",
            "medium",
            "CWE-407",
            ("count in loop", "list count in loop", "rescans", "quadratic counting"),
        ),
        Kind(
            "missing-batching",
            "performance",
            "high",
            "",
            ("request per item", "one call per item", "no batching", "chatty api"),
        ),
        Kind(
            "busy-waiting",
            "performance",
            "medium",
            "",
            ("busy wait", "polling without sleep", "spin loop"),
        ),
        Kind(
            "eager-log-formatting",
            "performance",
            "low",
            "",
            ("eager formatting", "log formatting", "formatting for disabled log"),
        ),
        Kind(
            "row-by-row-dataframe",
            "performance",
            "medium",
            "",
            ("iterrows", "append to array in loop", "array append in loop", "growing array"),
        ),
    )
}

PLANTS = r'''
@ quadratic-membership web easy -
 def new_visitors(visits, known):
     """Return the visitors of today that we have not seen before, in order."""
-    seen = set(known)
+    seen = list(known)
     fresh = []
     for visitor in visits:
!        if visitor not in seen:
             fresh.append(visitor)
-            seen.add(visitor)
~            seen.append(visitor)
     return fresh
? compared = []
? class V(int):
?     def __eq__(self, other): compared.append(1); return int(self) == int(other)
?     __hash__ = int.__hash__
? new_visitors([V(i) for i in range(200)], [])
? ok = len(compared) < 2000
@ quadratic-membership data-science hard -
 class Vocabulary:
     """Words with their numbers, in order of first use."""

     def __init__(self):
         self.words = []
         self.numbers = {}

     def add(self, word):
         """Return the number of a word, a new one where it is new."""
-        if word not in self.numbers:
+        if word not in self.words:
             self.numbers[word] = len(self.words)
             self.words.append(word)
         return self.numbers[word]
? compared = []
? class W(int):
?     def __eq__(self, other): compared.append(1); return int(self) == int(other)
?     __hash__ = int.__hash__
? vocabulary = Vocabulary()
? for i in range(200): vocabulary.add(W(i))
? ok = len(compared) < 2000
@ nested-loop-join data-science easy -
 def join_orders(customers, orders):
     """Return (customer name, amount) of every order of a known customer."""
-    names = {customer["id"]: customer["name"] for customer in customers}
-    return [
-        (names[order["customer"]], order["amount"])
-        for order in orders
-        if order["customer"] in names
-    ]
+    return [
+        (customer["name"], order["amount"])
+        for order in orders
+        for customer in customers
+        if customer["id"] == order["customer"]
+    ]
? compared = []
? class I(int):
?     def __eq__(self, other): compared.append(1); return int(self) == int(other)
?     __hash__ = int.__hash__
? rows = [{"id": I(i), "name": i, "customer": I(i), "amount": i} for i in range(100)]
? ok = len(join_orders(rows, rows)) == 100 and len(compared) < 1000
@ nested-loop-join mobile hard -
 def overlapping(meetings):
     """Tell whether two meetings of a calendar overlap; each is (start, end)."""
-    ordered = sorted(meetings)
-    return any(ordered[i][1] > ordered[i + 1][0] for i in range(len(ordered) - 1))
+    return any(
+        one is not other and one[0] < other[1] and other[0] < one[1]
+        for one in meetings
+        for other in meetings
+    )
? class M(tuple):
?     read = 0
?     def __getitem__(self, i): M.read += 1; return tuple.__getitem__(self, i)
? ok = not overlapping([M((i, i + 1)) for i in range(100)]) and M.read < 2000
@ n-plus-one-queries web easy -
 def authors_of_thread(connection, thread_id, post_ids):
     """Return post id -> name of its author, for posts of one thread."""
-    query = (
-        "SELECT post.id, author.name FROM post JOIN author ON author.id = post.author_id "
-        "WHERE post.thread_id = ?"
-    )
-    names = dict(connection.execute(query, (thread_id,)))
-    return {post_id: names[post_id] for post_id in post_ids}
~    query = (
~        "SELECT author.name FROM post JOIN author ON author.id = post.author_id "
~        "WHERE post.thread_id = ? AND post.id = ?"
~    )
+    return {
+        post_id: connection.execute(query, (thread_id, post_id)).fetchone()[0]
+        for post_id in post_ids
+    }
? class _Rows(list):
?     def fetchone(self): return ("a",)
? class _Db:
?     n = 0
?     def execute(self, *_): self.n += 1; return _Rows([(1, "a"), (2, "b")])
? db = _Db()
? authors_of_thread(db, 7, [1, 2])
? ok = db.n == 1
@ n-plus-one-queries backend hard -
 class OrderBook:
     """Orders with their lines, read from two stores."""

     def __init__(self, orders, lines):
         self.orders = orders
         self.lines = lines

     def totals(self, customer_id):
         """Return order id -> sum of its lines."""
         found = self.orders.of_customer(customer_id)
-        lines = self.lines.of_orders([order.id for order in found])
-        return {order.id: sum(line.cents for line in lines[order.id]) for order in found}
+        return {
+            order.id: sum(line.cents for line in self.lines.of_orders([order.id])[order.id])
+            for order in found
+        }
? class _O:
?     def __init__(self, id): self.id = id
? class _Orders:
?     def of_customer(self, _): return [_O(i) for i in range(5)]
? class _Lines:
?     n = 0
?     def of_orders(self, ids): self.n += 1; return {i: [] for i in ids}
? lines = _Lines()
? OrderBook(_Orders(), lines).totals(1)
? ok = lines.n == 1
@ string-building web easy -
 def page_of(rows):
     """Return the rows of a table as HTML."""
-    cells = (f"<tr><td>{int(row)}</td></tr>\n" for row in rows)
-    return "<table>\n" + "".join(cells) + "</table>"
~    page = "<table>\n"
~    for row in rows:
+        page = page + f"<tr><td>{int(row)}</td></tr>\n"
~    return page + "</table>"
? ok = "join" in page_of.__code__.co_names
@ string-building devops hard -
 def merge_frames(frames):
     """Return the payload of a stream of frames, each (flags, bytes)."""
-    body = bytearray()
+    body = b""
     for flags, payload in frames:
         if flags & 1:
             payload = payload.rstrip(b"\0")
!        body += payload
     return bytes(body)
? ok = "bytearray" in merge_frames.__code__.co_names
@ repeated-regex-compile devops easy -
 import re

-STATUS = re.compile(r'" (\d{3}) ')
~STATUS = r'" (\d{3}) '


 def count_errors(lines):
     """Return how many log lines tell of a server error."""
     count = 0
     for line in lines:
-        match = STATUS.search(line)
+        match = re.compile(STATUS).search(line)
         count += match is not None and match[1].startswith("5")
     return count
? import re
? made = []
? kept, re.compile = re.compile, lambda *a: made.append(1) or kept(*a)
? count_errors(['"x" 500 1'] * 5)
? re.compile = kept
? ok = len(made) <= 1
@ repeated-regex-compile data-science hard -
 import re


 def tag_words(texts, words):
     """Return for each text which of the words it has as a whole word."""
-    patterns = [(word, re.compile(rf"\b{re.escape(word)}\b")) for word in words]
-    return [[word for word, pattern in patterns if pattern.search(text)] for text in texts]
+    return [
+        [word for word in words if re.compile(rf"\b{re.escape(word)}\b").search(text)]
~        for text in texts
~    ]
? import re
? made = []
? kept, re.compile = re.compile, lambda *a: made.append(1) or kept(*a)
? tag_words(["a b"] * 10, ["a", "b"])
? re.compile = kept
? ok = len(made) <= 2
@ needless-copy data-science medium -
 def running_totals(values):
     """Return the running totals of some values."""
     totals = []
     total = 0
     for value in values:
         total += value
-        totals.append(total)
+        totals = totals + [total]
     return totals
? ok = "append" in running_totals.__code__.co_names
@ needless-copy backend hard -
-from copy import copy
+from copy import deepcopy


 class Board:
     """Positions of a game; moves give new boards."""

     def __init__(self, cells, history=()):
         self.cells = cells
         self.history = history

     def moved(self, place, piece):
         """Return the board after a move; this one stays as it is."""
-        cells = copy(self.cells)
+        cells = deepcopy(self.cells)
         cells[place] = piece
-        return Board(cells, self.history + ((place, piece),))
+        return Board(cells, deepcopy(self.history) + ((place, piece),))
? class P:
?     n = 0
?     def __deepcopy__(self, memo): P.n += 1; return self
? Board({1: P(), 2: P()}).moved(3, 4)
? ok = P.n == 0
@ wrong-queue backend easy -
-from collections import deque


 def reachable(graph, start):
     """Return all nodes that can be reached from a start, breadth first."""
     seen = {start}
-    waiting = deque([start])
+    waiting = [start]
     while waiting:
-        node = waiting.popleft()
+        node = waiting.pop(0)
         for other in graph.get(node, ()):
             if other not in seen:
                 seen.add(other)
                 waiting.append(other)
     return seen
? ok = "popleft" in reachable.__code__.co_names
@ wrong-queue mobile hard -
-from collections import deque


 class RecentReadings:
     """The newest readings of a sensor, newest first."""

     def __init__(self, size):
         self.size = size
-        self.readings = deque(maxlen=size)
+        self.readings = []

     def add(self, reading):
         """Keep a reading; the oldest goes when there are too many."""
-        self.readings.appendleft(reading)
+        self.readings.insert(0, reading)
+        del self.readings[self.size :]

     def newest(self):
         """Return the newest reading, None without any."""
         return self.readings[0] if self.readings else None
? ok = "insert" not in RecentReadings.add.__code__.co_names
@ unbounded-cache web medium -
-from collections import OrderedDict


 class Thumbnails:
     """Thumbnails of pictures, made when first asked for."""

     def __init__(self, make, size=1000):
         self.make = make
         self.size = size
-        self.made = OrderedDict()
+        self.made = {}

     def get(self, picture_id):
         """Return the thumbnail of a picture."""
         if picture_id not in self.made:
!            self.made[picture_id] = self.make(picture_id)
-            while len(self.made) > self.size:
-                self.made.popitem(last=False)
         return self.made[picture_id]
? thumbnails = Thumbnails(str, 10)
? for i in range(50): thumbnails.get(i)
? ok = len(thumbnails.made) <= 10
@ unbounded-cache backend hard -
 from functools import lru_cache


-@lru_cache(maxsize=4096)
+@lru_cache(maxsize=None)
 def shipping_cost(sender, receiver, grams):
     """Return the cost of a parcel in cents, by the distance of two postcodes and its weight."""
     distance = abs(int(sender) - int(receiver))
     return 350 + distance // 100 + grams // 50
? ok = shipping_cost.cache_info().maxsize is not None
@ blocking-call-in-async web easy -
 import asyncio
-import time
+import time


 async def retry(action, tries=3, pause_s=0.5):
     """Return what an action gives, trying again after a pause."""
     for left in reversed(range(tries)):
         try:
             return await action()
         except ConnectionError:
             if not left:
                 raise
-            await asyncio.sleep(pause_s)
+            time.sleep(pause_s)
     return None
? import asyncio, time
? slept = []
? kept, time.sleep = time.sleep, slept.append
? async def _fail():
?     raise ConnectionError
? try:
?     asyncio.run(retry(_fail, 2, 0.001))
? except ConnectionError:
?     pass
? time.sleep = kept
? ok = not slept
@ blocking-call-in-async backend hard -
 import asyncio
 import hashlib


 class UploadHandler:
     """Takes uploads and stores them under their digest."""

     def __init__(self, store):
         self.store = store

     async def take(self, chunks):
         """Store an upload; return its digest."""
         body = b"".join([chunk async for chunk in chunks])
-        digest = await asyncio.to_thread(self.digest_of, body)
+        digest = self.digest_of(body)
         await self.store.put(digest, body)
         return digest

     def digest_of(self, body):
         """Return a digest that is slow on purpose."""
         return hashlib.pbkdf2_hmac("sha256", body, b"upload-digest", 400_000).hex()
? import asyncio, threading
? where = []
? class _Store:
?     async def put(self, *_): return None
? handler = UploadHandler(_Store())
? in_loop = lambda: threading.current_thread() is threading.main_thread()
? handler.digest_of = lambda body: where.append(in_loop())
? async def _chunks():
?     yield b"x"
? asyncio.run(handler.take(_chunks()))
? ok = where == [False]
@ sequential-await mobile medium -
 import asyncio


 async def load_home(api, user_id):
     """Return what the app's start page shows."""
-    profile, feed, badges = await asyncio.gather(
-        api.profile(user_id), api.feed(user_id), api.badges(user_id)
-    )
+    profile = await api.profile(user_id)
+    feed = await api.feed(user_id)
+    badges = await api.badges(user_id)
     return {"profile": profile, "feed": feed, "badges": badges}
? import asyncio
? now, most = [0], [0]
? class _Api:
?     async def profile(self, _):
?         now[0] += 1; most[0] = max(most[0], now[0]); await asyncio.sleep(0); now[0] -= 1
?     feed = badges = profile
? asyncio.run(load_home(_Api(), 1))
? ok = most[0] == 3
@ sequential-await devops hard -
 import asyncio


 async def probe_all(hosts, probe, at_once=20):
     """Return host -> answer of its probe, at most so many at once."""
     gate = asyncio.Semaphore(at_once)

     async def one(host):
         async with gate:
             return host, await probe(host)

-    return dict(await asyncio.gather(*map(one, hosts)))
+    return dict([await one(host) for host in hosts])
? import asyncio
? now, most = [0], [0]
? async def _probe(_):
?     now[0] += 1; most[0] = max(most[0], now[0]); await asyncio.sleep(0); now[0] -= 1
? asyncio.run(probe_all(range(5), _probe))
? ok = most[0] > 1
@ missing-index-use backend medium -
 def orders_of_day(connection, day, next_day):
     """Return the ids of a day's orders; `created_at` is indexed."""
-    query = "SELECT id FROM orders WHERE created_at >= ? AND created_at < ?"
-    return [row[0] for row in connection.execute(query, (day, next_day))]
+    query = "SELECT id FROM orders WHERE date(created_at) >= ? AND date(created_at) < ?"
~    return [row[0] for row in connection.execute(query, (day, next_day))]
? import sqlite3
? db = sqlite3.connect(":memory:")
? db.execute("CREATE TABLE orders (id, created_at, note)")
? db.execute("CREATE INDEX by_day ON orders (created_at)")
? plans = []
? class _Db:
?     def execute(self, query, values):
?         plans.extend(str(r) for r in db.execute("EXPLAIN QUERY PLAN " + query, values)); return []
? orders_of_day(_Db(), "a", "b")
? ok = "SEARCH" in plans[0]
@ missing-index-use web hard -
 class UserSearch:
     """Finds users by the beginning of their name; `name` has an index."""

     def __init__(self, connection):
         self.connection = connection

     def starting_with(self, prefix, limit=10):
         """Return up to so many ids."""
-        query = "SELECT id FROM user WHERE name >= ? AND name < ? ORDER BY name LIMIT ?"
-        values = (prefix, prefix + "\uffff", limit)
+        query = "SELECT id FROM user WHERE substr(name, 1, ?) = ? ORDER BY id LIMIT ?"
+        values = (len(prefix), prefix, limit)
         return [row[0] for row in self.connection.execute(query, values)]
? import sqlite3
? db = sqlite3.connect(":memory:")
? db.execute("CREATE TABLE user (id, name, note)")
? db.execute("CREATE INDEX by_name ON user (name)")
? plans = []
? class _Db:
?     def execute(self, query, values):
?         plans.extend(str(r) for r in db.execute("EXPLAIN QUERY PLAN " + query, values)); return []
? UserSearch(_Db()).starting_with("a")
? ok = "SEARCH" in plans[0]
@ select-everything web easy -
 def is_name_taken(connection, name):
     """Tell whether a user has this name."""
-    query = "SELECT 1 FROM user WHERE name = ? LIMIT 1"
-    return connection.execute(query, (name,)).fetchone() is not None
+    rows = connection.execute("SELECT * FROM user").fetchall()
+    return any(row[1] == name for row in rows)
? class _Db:
?     asked = []
?     def execute(self, query, *_): self.asked.append(query); return self
?     def fetchone(self): return None
?     def fetchall(self): return []
? is_name_taken(_Db(), "a")
? ok = "WHERE" in _Db.asked[0]
@ select-everything data-science hard -
 def mean_duration(connection, kind):
     """Return the mean duration of the finished jobs of a kind, None without any."""
-    query = "SELECT AVG(seconds) FROM job WHERE kind = ? AND state = 'done'"
-    return connection.execute(query, (kind,)).fetchone()[0]
+    query = "SELECT id, kind, state, seconds, log FROM job WHERE kind = ?"
+    found = [row[3] for row in connection.execute(query, (kind,)) if row[2] == "done"]
+    return sum(found) / len(found) if found else None
? asked = []
? class _Db:
?     def execute(self, query, *_): asked.append(query); return self
?     def fetchone(self): return (None,)
?     def __iter__(self): return iter(())
? mean_duration(_Db(), "a")
? ok = "AVG" in asked[0]
@ repeated-sort data-science medium -
 from bisect import bisect_left


 def ranks(values, references):
     """Return for each value how many references are below it."""
-    ordered = sorted(references)
     found = []
     for value in values:
+        ordered = sorted(references)
         found.append(bisect_left(ordered, value))
     return found
? import builtins
? made = []
? def sorted(x): made.append(1); return builtins.sorted(x)
? ranks([1, 2, 3], [3, 1])
? ok = len(made) == 1
@ repeated-sort backend hard -
-from heapq import heappop, heappush


 class Agenda:
     """Tasks by due time."""

     def __init__(self):
         self.tasks = []

     def add(self, due, name):
         """Plan a task."""
-        heappush(self.tasks, (due, name))
+        self.tasks.append((due, name))
+        self.tasks.sort(reverse=True)

     def next_task(self):
         """Take out the name of the task that is due first."""
-        return heappop(self.tasks)[1]
~        return self.tasks.pop()[1]
? ok = "sort" not in Agenda.add.__code__.co_names
@ repeated-computation data-science easy -
 def shares(counts):
     """Return name -> share of the total."""
-    total = sum(counts.values())
-    return {name: count / total for name, count in counts.items()}
+    return {name: count / sum(counts.values()) for name, count in counts.items()}
? class C(dict):
?     n = 0
?     def values(self): C.n += 1; return dict.values(self)
? shares(C(a=1, b=2, c=3))
? ok = C.n == 1
@ repeated-computation devops hard -
 def drifted(hosts, load_template, render):
     """Return the hosts whose configuration differs from what the template gives."""
-    template = load_template("host.conf")
     found = []
     for host in hosts:
-        if host.configuration != render(template, host.name):
+        if host.configuration != render(load_template("host.conf"), host.name):
             found.append(host.name)
     return found
? class _Host: name, configuration = "a", "b"
? made = []
? drifted([_Host()] * 5, lambda n: made.append(1), lambda t, n: "b")
? ok = len(made) == 1
@ missing-memoization backend medium -
-from functools import cache
-
-
-@cache
 def ways_to_pay(cents, coins):
     """Return in how many ways an amount can be paid with coins of some values (a tuple)."""
     if cents == 0:
         return 1
     if cents < 0 or not coins:
         return 0
!    return ways_to_pay(cents - coins[0], coins) + ways_to_pay(cents, coins[1:])
? ok = hasattr(ways_to_pay, "cache_info")
@ missing-memoization data-science hard -
 def edit_distance(first, second):
     """Return how many letters must be changed to turn one text into the other."""
-    known = {}

     def distance(i, j):
         if not i or not j:
             return i + j
-        if (i, j) not in known:
-            same = first[i - 1] == second[j - 1]
-            changed = distance(i - 1, j - 1) + (not same)
-            known[i, j] = min(changed, distance(i - 1, j) + 1, distance(i, j - 1) + 1)
-        return known[i, j]
+        same = first[i - 1] == second[j - 1]
+        changed = distance(i - 1, j - 1) + (not same)
+        return min(changed, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

     return distance(len(first), len(second))
? read = [0]
? class T(str):
?     def __getitem__(self, i): read[0] += 1; return str.__getitem__(self, i)
? ok = edit_distance(T("abcdef"), T("ghijkl")) == 6 and read[0] < 200
@ whole-file-read devops easy -
 def count_matches(path, word):
     """Return how many lines of a log hold a word."""
     with open(path, encoding="utf-8") as stream:
-        return sum(word in line for line in stream)
+        return len([line for line in stream.read().split("\n") if word in line])
? import io
? class _S(io.StringIO):
?     def read(self, *a): raise MemoryError
? def open(path, encoding): return _S("a b\nc")
? ok = count_matches("x", "a") == 1
@ whole-file-read data-science hard -
 import hashlib


 def file_digest(path, block=1 << 20):
     """Return the SHA-256 of a data file of any size."""
     digest = hashlib.sha256()
     with open(path, "rb") as stream:
-        while chunk := stream.read(block):
+        body = stream.read()
+        for chunk in (body[start : start + block] for start in range(0, len(body), block)):
             digest.update(chunk)
     return digest.hexdigest()
? import io
? sizes = []
? class _S(io.BytesIO):
?     def read(self, n=-1): sizes.append(n); return super().read(n)
? def open(path, mode): return _S(b"x")
? file_digest("x")
? ok = min(sizes) > 0
@ unbuffered-write data-science easy -
 def write_rows(path, rows):
     """Write rows as tab separated lines."""
-    with open(path, "w", encoding="utf-8") as stream:
-        for row in rows:
-            stream.write("\t".join(map(str, row)) + "\n")
+    for row in rows:
+        with open(path, "a", encoding="utf-8") as stream:
+            stream.write("\t".join(map(str, row)) + "\n")
? import io
? made = []
? def open(*_, **__): made.append(1); return io.StringIO()
? write_rows("x", [(1,), (2,), (3,)])
? ok = len(made) == 1
@ unbuffered-write mobile hard -
 class TrackRecorder:
     """Keeps the points of a run and writes them in blocks."""

     def __init__(self, stream, block=50):
         self.stream = stream
         self.block = block
         self.waiting = []

     def add(self, point):
         """Keep one point."""
         self.waiting.append(f"{point[0]:.6f},{point[1]:.6f}\n")
-        if len(self.waiting) >= self.block:
+        if self.waiting:
             self.flush()

     def flush(self):
         """Write what waits."""
         self.stream.writelines(self.waiting)
         self.stream.flush()
         self.waiting.clear()
? class _S:
?     n = 0
?     def writelines(self, _): return None
?     def flush(self): self.n += 1
? stream = _S()
? recorder = TrackRecorder(stream)
? for i in range(100): recorder.add((1, i))
? ok = stream.n <= 2
@ commit-per-row backend easy -
 def import_prices(connection, prices):
     """Store (sku, cents) pairs; return how many."""
     query = "INSERT INTO price (sku, cents) VALUES (?, ?)"
-    connection.executemany(query, prices)
-    connection.commit()
+    for price in prices:
+        connection.execute(query, price)
+        connection.commit()
     return len(prices)
? class _Db:
?     n = 0
?     def commit(self): self.n += 1
?     def execute(self, *_): return None
?     executemany = execute
? db = _Db()
? import_prices(db, [(1, 2)] * 5)
? ok = db.n == 1
@ commit-per-row mobile hard -
 class SyncInbox:
     """Stores the messages that a phone pulls."""

     def __init__(self, open_session):
         self.open_session = open_session

     def store(self, messages):
         """Store new messages in one transaction; return how many."""
         stored = 0
-        with self.open_session() as session:
-            for message in messages:
+        for message in messages:
+            with self.open_session() as session:
                 stored += session.insert_if_new(message)
         return stored
? opened = []
? class _S:
?     def __enter__(self): opened.append(1); return self
?     def __exit__(self, *_): return None
?     def insert_if_new(self, _): return 1
? SyncInbox(_S).store([1, 2, 3])
? ok = len(opened) == 1
@ connection-per-call web medium -
 class GeoService:
     """Asks a service for the place of an address."""

     def __init__(self, connect):
         self.connect = connect
-        self.connection = None
+        self.asked = 0

     def place_of(self, address):
         """Return the place of an address."""
-        if self.connection is None:
-            self.connection = self.connect()
-        return self.connection.get(address)
+        connection = self.connect()
~        self.asked += 1
+        return connection.get(address)
? made = []
? def _connect(): made.append(1); return {"a": 1}
? service = GeoService(_connect)
? service.place_of("a"); service.place_of("a")
? ok = len(made) == 1
@ connection-per-call devops hard -
 def restart_all(names, open_control):
     """Restart services over the control socket; return those that refused."""
     refused = []
-    with open_control() as control:
-        for name in names:
+    for name in names:
+        with open_control() as control:
             if control.send("restart", name) != "ok":
                 refused.append(name)
     return refused
? opened = []
? class _C:
?     def __enter__(self): opened.append(1); return self
?     def __exit__(self, *_): return None
?     def send(self, *_): return "ok"
? restart_all(["a", "b"], _C)
? ok = len(opened) == 1
@ list-for-aggregate data-science easy -
 def mean_square(values):
     """Return the mean of the squares of an iterator of numbers."""
-    total, count = 0.0, 0
-    for value in values:
-        total += value * value
-        count += 1
-    return total / count if count else 0.0
+    squares = [value * value for value in list(values)]
+    return sum(squares) / len(squares) if squares else 0.0
? def _n():
?     yield from (1, 2)
? def list(x): raise MemoryError
? ok = mean_square(_n()) == 2.5
@ list-for-aggregate backend hard -
 def first_overdraft(bookings, start=0):
     """Return the first booking that takes the balance below zero, None without one."""
     balance = start
-    for booking in bookings:
+    for booking in list(bookings):
         balance += booking["cents"]
         if balance < 0:
             return booking
     return None
? read = []
? def _b():
?     for i in range(100): read.append(i); yield {"cents": -1}
? first_overdraft(_b())
? ok = len(read) == 1
@ full-sort-for-few data-science easy -
-from heapq import nlargest


 def top_words(counts, n=10):
     """Return the n most frequent words, the most frequent first."""
-    return nlargest(n, counts, key=counts.get)
+    return sorted(counts, key=counts.get, reverse=True)[:n]
? ok = "sorted" not in top_words.__code__.co_names
@ full-sort-for-few mobile hard -
 def nearest_station(stations, here):
     """Return the station that is nearest to a place, None without stations."""

     def distance(station):
         return (station["x"] - here[0]) ** 2 + (station["y"] - here[1]) ** 2

-    return min(stations, key=distance, default=None)
+    ranked = sorted(stations, key=distance)
+    return ranked[0] if ranked else None
? ok = "sorted" not in nearest_station.__code__.co_names
@ repeated-scan data-science easy -
-from collections import Counter


 def repeated_values(values):
     """Return the values that occur more than once, sorted."""
-    counts = Counter(values)
-    return sorted(value for value, count in counts.items() if count > 1)
+    return sorted({value for value in values if values.count(value) > 1})
? class L(list):
?     n = 0
?     def count(self, x): L.n += 1; return list.count(self, x)
? ok = repeated_values(L([1, 1, 2, 3])) == [1] and L.n == 0
@ repeated-scan web hard -
 class Playlist:
     """Songs in order, with where each stands."""

     def __init__(self, songs):
         self.songs = list(songs)
         self.places = {song: place for place, song in enumerate(self.songs)}

     def after(self, wanted):
         """Return for each wanted song the one that follows it, None for the last."""
         following = []
         for song in wanted:
-            place = self.places[song] + 1
+            place = self.songs.index(song) + 1
             following.append(self.songs[place] if place < len(self.songs) else None)
         return following
? class L(list):
?     n = 0
?     def index(self, x): L.n += 1; return list.index(self, x)
? playlist = Playlist("abc")
? playlist.songs = L(playlist.songs)
? ok = playlist.after("ab") == ["b", "c"] and L.n == 0
@ missing-batching backend medium -
 def price_cart(client, skus, batch=100):
     """Return sku -> price, from the price service; it takes up to 100 skus a call."""
     prices = {}
-    for start in range(0, len(skus), batch):
-        prices.update(client.prices(skus[start : start + batch]))
+    for sku in skus:
+        prices.update(client.prices([sku]))
     return prices
? class _C:
?     n = 0
?     def prices(self, some): self.n += 1; return {}
? client = _C()
? price_cart(client, list(range(50)))
? ok = client.n == 1
@ missing-batching mobile hard -
 class PushSender:
     """Sends notifications through a gateway that takes up to 500 devices a call."""

     limit = 500

     def __init__(self, gateway):
         self.gateway = gateway

     def send(self, text, devices):
         """Send a text to devices; return how many calls were made."""
         calls = 0
-        for start in range(0, len(devices), self.limit):
-            self.gateway.push(devices[start : start + self.limit], text)
+        for device in devices:
+            self.gateway.push([device], text)
             calls += 1
         return calls
? class _G:
?     def push(self, *_): return None
? ok = PushSender(_G()).send("x", list(range(600))) == 2
@ busy-waiting devops medium -
 import time


 def wait_for(is_ready, timeout_s, clock=time.monotonic, sleep=time.sleep):
     """Wait until something is ready; tell whether it became so in time."""
     end = clock() + timeout_s
!    while clock() < end:
         if is_ready():
             return True
-        sleep(min(0.2, timeout_s / 10))
     return False
? slept = []
? times = iter(range(10000))
? wait_for(lambda: False, 50, lambda: next(times), slept.append)
? ok = bool(slept)
@ busy-waiting backend hard -
 import queue


 class Consumer:
     """Takes jobs from a queue until it is told to stop."""

     def __init__(self, jobs, handle):
         self.jobs = jobs
         self.handle = handle
         self.is_running = True

     def run(self):
         """Handle jobs as they come."""
         while self.is_running:
             try:
-                job = self.jobs.get(timeout=1.0)
+                job = self.jobs.get_nowait()
             except queue.Empty:
                 continue
             self.handle(job)
? ok = "get_nowait" not in Consumer.run.__code__.co_names
@ eager-log-formatting backend easy -
 import logging

 log = logging.getLogger("orders")


 def apply_orders(orders, apply):
     """Apply orders one by one; return how many."""
     for order in orders:
-        log.debug("applying %r", order)
+        log.debug(f"applying {order!r}")
         apply(order)
     return len(orders)
? class O:
?     n = 0
?     def __repr__(self): O.n += 1; return "o"
? import logging
? log.setLevel(logging.WARNING)
? apply_orders([O(), O()], id)
? ok = O.n == 0
@ eager-log-formatting devops hard -
 import json
 import logging

 audit = logging.getLogger("audit")


 class StateStore:
     """The state of a cluster, changed key by key."""

     def __init__(self):
         self.state = {}

     def put(self, key, value):
         """Change one key."""
         self.state[key] = value
-        if audit.isEnabledFor(logging.DEBUG):
-            audit.debug("state is now %s", json.dumps(self.state, sort_keys=True))
+        audit.debug("state is now %s", json.dumps(self.state, sort_keys=True))
? import json, logging
? audit.setLevel(logging.WARNING)
? made = []
? kept, json.dumps = json.dumps, lambda *a, **k: made.append(1)
? StateStore().put("a", 1)
? json.dumps = kept
? ok = not made
@ row-by-row-dataframe data-science medium -
 def gross_prices(frame, rate):
     """Return the gross price of every row of a pandas frame, as a list."""
-    return (frame["net"] * (1 + rate)).tolist()
+    return [row["net"] * (1 + rate) for _, row in frame.iterrows()]
? ok = "iterrows" not in str(gross_prices.__code__.co_consts) + str(gross_prices.__code__.co_names)
@ row-by-row-dataframe data-science hard -
 import numpy as np


 def collect_windows(signal, width, step):
     """Return the windows of a signal as an array of (count, width)."""
-    windows = []
+    windows = np.empty((0, width))
     for start in range(0, len(signal) - width + 1, step):
-        windows.append(signal[start : start + width])
-    return np.array(windows).reshape(-1, width)
+        windows = np.vstack([windows, signal[start : start + width]])
~    return windows
? import numpy as np
? made = []
? kept, np.vstack = np.vstack, lambda x: made.append(1) or kept(x)
? collect_windows(np.arange(100.0), 10, 10)
? np.vstack = kept
? ok = len(made) <= 1
'''
