"""Habits that make code hard to change, by kind; `reviewer_plants` has the notation.

Each is seen by a rule of ruff, or by a probe where no rule exists.
"""

from evaluator.suites.built_in.reviewer_plants import Kind

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "magic-number",
            "maintainability",
            "low",
            "CWE-1106",
            ("unnamed constant", "magic value", "hardcoded number"),
        ),
        Kind(
            "deep-nesting",
            "maintainability",
            "medium",
            "CWE-1124",
            ("nested conditions", "arrow code", "too many nested blocks"),
        ),
        Kind(
            "duplicated-code",
            "maintainability",
            "medium",
            "CWE-1041",
            ("copy paste", "code duplication", "repeated code", "duplicate code"),
        ),
        Kind(
            "swallowed-exception",
            "maintainability",
            "high",
            "CWE-390",
            ("silent failure", "except pass", "ignored exception", "broad except", "bare except"),
        ),
        Kind(
            "dead-code",
            "maintainability",
            "low",
            "CWE-561",
            ("unused variable", "unreachable code", "unused code", "CWE-563"),
        ),
        Kind(
            "misleading-name",
            "maintainability",
            "medium",
            "CWE-1099",
            ("bad name", "wrong name", "unclear name", "poor naming"),
        ),
        Kind(
            "shadowed-builtin",
            "maintainability",
            "low",
            "",
            ("shadows builtin", "builtin shadowing", "shadowing a builtin"),
        ),
        Kind(
            "global-state",
            "maintainability",
            "medium",
            "CWE-1108",
            ("global variable", "mutable global", "global statement"),
        ),
        Kind(
            "too-many-parameters",
            "maintainability",
            "medium",
            "CWE-1064",
            ("long parameter list", "too many arguments"),
        ),
        Kind(
            "boolean-trap",
            "maintainability",
            "low",
            "",
            ("boolean flag", "flag argument", "boolean parameter"),
        ),
        Kind(
            "commented-out-code",
            "maintainability",
            "low",
            "CWE-1116",
            ("commented code", "code in comments"),
        ),
        Kind(
            "leaked-resource",
            "maintainability",
            "medium",
            "CWE-772",
            ("unclosed file", "resource leak", "missing context manager", "file not closed"),
        ),
        Kind(
            "print-for-logging",
            "maintainability",
            "low",
            "",
            ("print statement", "print instead of logging", "debug print"),
        ),
        Kind(
            "stale-docstring",
            "maintainability",
            "medium",
            "CWE-1116",
            ("outdated docstring", "wrong docstring", "docstring mismatch", "wrong documentation"),
        ),
        Kind(
            "inconsistent-return",
            "maintainability",
            "medium",
            "",
            ("implicit return none", "mixed return", "inconsistent returns"),
        ),
        Kind("unused-parameter", "maintainability", "low", "", ("unused argument",)),
        Kind(
            "mixed-responsibilities",
            "maintainability",
            "medium",
            "CWE-1120",
            ("single responsibility", "does too much", "mixes io and logic", "god function"),
        ),
    )
}

PLANTS = r'''
@ magic-number web easy PLR2004
-LOCK_AFTER_FAILURES = 7
-
-
 def is_locked(account):
     """Tell whether an account is locked after too many failed logins."""
-    return account.failed_logins >= LOCK_AFTER_FAILURES
+    return account.failed_logins >= 7
@ magic-number mobile hard PLR2004
 class Battery:
     """What the charge of a phone's battery allows."""

-    sync_above_percent = 17
-
     def __init__(self, percent, is_charging):
         self.percent = percent
         self.is_charging = is_charging

     def may_sync(self):
         """Tell whether background work may run."""
-        return self.is_charging or self.percent > self.sync_above_percent
+        return self.is_charging or self.percent > 17
@ deep-nesting backend medium -
 def first_free_room(rooms, guests, needs_ramp):
     """Return the name of the first room that suits, None without one."""
-    suiting = (
-        room.name
-        for room in rooms
-        if room.is_free and room.beds >= guests and (room.has_ramp or not needs_ramp)
-    )
-    return next(suiting, None)
~    for room in rooms:
+        if room.is_free:
+            if room.beds >= guests:
+                if not needs_ramp:
~                    return room.name
+                else:
+                    if room.has_ramp:
~                        return room.name
~    return None
? ok = "suiting" in first_free_room.__code__.co_varnames
@ deep-nesting data-science hard -
 def valid_rows(rows, limits):
     """Return the rows whose values lie within the limits of their column."""

     def is_valid(row):
-        known = (name for name in row if name in limits)
-        return all(limits[name][0] <= row[name] <= limits[name][1] for name in known)
+        for name in row:
+            if name in limits:
+                if row[name] >= limits[name][0]:
+                    if row[name] > limits[name][1]:
~                        return False
~                else:
~                    return False
~        return True

     return [row for row in rows if is_valid(row)]
? inner = next(c for c in valid_rows.__code__.co_consts if hasattr(c, "co_name"))
? ok = "known" in inner.co_varnames
@ duplicated-code web medium -
-def _address_line(address):
-    street = address["street"].strip().title()
-    return f"{street}, {address['zip']} {address['city'].strip().title()}"
-
-
 def shipping_label(order):
     """Return the label of a parcel: name, address, and from where it is sent."""
-    sender, receiver = _address_line(order["sender"]), _address_line(order["receiver"])
-    return f"{order['name']}\n{receiver}\nfrom: {sender}"
+    sender = order["sender"]
+    sender_street = sender["street"].strip().title()
+    sent_from = f"{sender_street}, {sender['zip']} {sender['city'].strip().title()}"
+    receiver = order["receiver"]
+    receiver_street = receiver["street"].strip().title()
+    sent_to = f"{receiver_street}, {receiver['zip']} {receiver['city'].strip().title()}"
~    return f"{order['name']}\n{sent_to}\nfrom: {sent_from}"
? ok = shipping_label.__code__.co_names.count("strip") == 0
@ duplicated-code devops hard -
 class Rollout:
     """Moves a share of the traffic to a new version, or back."""

     def __init__(self, balancer, journal):
         self.balancer = balancer
         self.journal = journal

     def forward(self, step):
         """Send more traffic to the new version; return its share."""
-        return self._move(step)
+        share = min(100, max(0, self.balancer.share + step))
+        self.balancer.share = share
+        self.journal.append(("share", share))
~        return share

     def back(self, step):
         """Send less traffic to the new version; return its share."""
-        return self._move(-step)
-
-    def _move(self, change):
-        share = min(100, max(0, self.balancer.share + change))
-        self.balancer.share = share
-        self.journal.append(("share", share))
-        return share
!
+        share = min(100, max(0, self.balancer.share - step))
~        self.balancer.share = share
~        self.journal.append(("share", share))
~        return share
? ok = "_move" in vars(Rollout)
@ swallowed-exception backend easy S110
 def warm_cache(cache, keys):
     """Load keys into the cache ahead of time; return how many are there."""
     loaded = 0
     for key in keys:
-        loaded += cache.load(key)
+        try:
~            loaded += cache.load(key)
+        except Exception:
+            pass
     return loaded
@ swallowed-exception data-science hard S112
 def parse_readings(lines):
     """Return the readings of a sensor, one number a line; a bad line is a ValueError."""
     readings = []
     for line in lines:
-        readings.append(float(line.partition("#")[0]))
+        try:
~            readings.append(float(line.partition("#")[0]))
+        except Exception:
+            continue
     return readings
@ dead-code backend easy F841
 def invoice_total(lines, tax_rate):
     """Return the gross total of an invoice in cents."""
     net = sum(line["cents"] * line["count"] for line in lines)
+    discount = net * 0.02
     return round(net * (1 + tax_rate))
@ dead-code devops hard -
 def restart_order(services):
     """Return the names of services, those without dependencies first."""
     ordered = sorted(services, key=lambda service: (len(service["needs"]), service["name"]))
     return [service["name"] for service in ordered]
+    waiting = [service for service in services if service["needs"]]
+    return ordered + waiting
? ok = "waiting" not in restart_order.__code__.co_varnames
@ misleading-name data-science easy -
 def summarise(measurements):
     """Return mean and spread of measurements."""
     count = len(measurements)
-    mean = sum(measurements) / count
-    spread = max(measurements) - min(measurements)
-    return {"mean": mean, "spread": spread}
+    median = sum(measurements) / count
~    spread = max(measurements) - min(measurements)
~    return {"mean": median, "spread": spread}
? ok = "median" not in summarise.__code__.co_varnames
@ misleading-name web hard -
 class Basket:
     """What a customer is about to buy."""

     def __init__(self):
         self.items = {}

     def add(self, sku, count):
         """Put so many of an article into the basket."""
         self.items[sku] = self.items.get(sku, 0) + count

-    def remove_unavailable(self, stock):
+    def is_available(self, stock):
         """Drop the articles that are out of stock; return their skus."""
         gone = [sku for sku in self.items if not stock.get(sku)]
         for sku in gone:
             del self.items[sku]
         return gone
? ok = not hasattr(Basket, "is_available")
@ shadowed-builtin web easy A001
 def query_string(values):
     """Return values as the query of an address, sorted by name."""
-    pairs = [f"{name}={values[name]}" for name in sorted(values)]
-    return "&".join(pairs)
+    list = [f"{name}={values[name]}" for name in sorted(values)]
~    return "&".join(list)
@ shadowed-builtin mobile hard A002
 class Outbox:
     """Messages that wait for a network."""

     def __init__(self):
         self.messages = []

-    def drop(self, message_id):
+    def drop(self, id):
         """Remove a message; tell whether it was there."""
         before = len(self.messages)
-        self.messages = [one for one in self.messages if one["id"] != message_id]
~        self.messages = [one for one in self.messages if one["id"] != id]
         return len(self.messages) < before
@ global-state backend easy PLW0603
-class Counter:
-    """Numbers for new tickets."""
-
-    def __init__(self, start=0):
-        self.last = start
-
-    def next_number(self):
-        """Return the next number."""
-        self.last += 1
-        return self.last
~last_number = 0
~
~
~def next_number():
~    """Return the number of the next ticket."""
+    global last_number
+    last_number += 1
~    return last_number
@ global-state devops hard -
 class Deployment:
     """A deployment with the settings it was started with."""

-    def __init__(self, name, settings=None):
-        self.name = name
-        self.settings = dict(settings or {})
+    settings = {}
+
~    def __init__(self, name, settings=None):
~        self.name = name
+        self.settings.update(settings or {})

     def describe(self):
         """Return the name with its settings, sorted."""
         pairs = (f"{key}={value}" for key, value in sorted(self.settings.items()))
         return f"{self.name}: {', '.join(pairs)}"
? Deployment("a", {"x": 1})
? ok = Deployment("b").describe() == "b: "
@ too-many-parameters web easy PLR0913
-def book_table(guest, slot):
-    """Return the booking of a table for a guest at a time slot."""
-    return {"guest": guest.name, "mail": guest.mail, "day": slot.day, "hour": slot.hour}
+def book_table(name, mail, day, hour, seats, is_inside, note):
~    """Return the booking of a table for a guest at a time slot."""
~    booking = {"guest": name, "mail": mail, "day": day, "hour": hour}
~    return {**booking, "seats": seats, "inside": is_inside, "note": note}
@ too-many-parameters data-science hard PLR0913
 class Split:
     """A split of a data set into parts."""

-    def __init__(self, shares, seed=0):
-        self.shares = shares
-        self.seed = seed
+    def __init__(self, train, valid, test, seed, is_shuffled, is_stratified, fold):
~        self.shares = {"train": train, "valid": valid, "test": test}
~        self.seed = seed
~        self.options = (is_shuffled, is_stratified, fold)

     def sizes(self, count):
         """Return part -> number of rows, rounded down."""
         return {name: int(count * share) for name, share in self.shares.items()}
@ boolean-trap mobile easy FBT001
-def show_banner(screen, text):
-    """Show a banner on a screen until it is touched."""
-    screen.draw(text, style="banner")
-
-
-def show_alert(screen, text):
-    """Show an alert on a screen until it is confirmed."""
-    screen.draw(text, style="alert")
+def show_message(screen, text, important: bool):
~    """Show a text on a screen until it is touched, or confirmed where it is important."""
~    screen.draw(text, style="alert" if important else "banner")
@ boolean-trap backend hard FBT003
 class Ledger:
     """Bookings of an account."""

     def __init__(self, entries=()):
         self.entries = list(entries)

     def close_month(self, book):
         """Book what is open and return how many entries that were."""
         is_open = [entry for entry in self.entries if not entry["done"]]
         for entry in is_open:
-            book(entry, notify_owner=True, is_final=False)
+            book(entry, True, False)
             entry["done"] = True
         return len(is_open)
@ commented-out-code devops easy ERA001
 def backup_name(host, day):
     """Return the name of a host's backup of a day."""
+    # name = f"{day}-{host}"
+    # name = name.replace(".", "_")
     return f"{host}-{day:%Y%m%d}.tar.gz"
@ commented-out-code web hard ERA001
 class Pager:
     """Which rows a page of a list shows."""

     def __init__(self, size=25):
         self.size = size

     def rows_of(self, page, total):
         """Return first and last row (exclusive) of a page, counted from 0."""
         first = min(max(page, 0) * self.size, total)
         last = min(first + self.size, total)
+        # if first == last:
+        #     return None
         return first, last
@ leaked-resource devops easy SIM115
 def read_pid(path):
     """Return the process number that a service wrote down."""
-    with open(path, encoding="ascii") as stream:
-        return int(stream.read())
+    stream = open(path, encoding="ascii")
+    return int(stream.read())
@ leaked-resource backend hard SIM115
 class Journal:
     """A file that only grows."""

     def __init__(self, path):
         self.path = path

     def append(self, entries):
         """Write entries, one a line; return how many."""
-        with open(self.path, "a", encoding="utf-8") as stream:
-            stream.writelines(f"{entry}\n" for entry in entries)
+        stream = open(self.path, "a", encoding="utf-8")
+        stream.writelines(f"{entry}\n" for entry in entries)
         return len(entries)
@ print-for-logging backend easy T201
-import logging
-
-log = logging.getLogger("stock")
-
-
 def reorder(stock, minimum):
     """Return the skus whose stock is below the minimum."""
     low = sorted(sku for sku, count in stock.items() if count < minimum)
-    log.info("%d articles to order again", len(low))
+    print(f"{len(low)} articles to order again")
     return low
@ print-for-logging data-science hard T201
-import logging
-
-log = logging.getLogger("training")
-
-
 class EarlyStop:
     """Stops a training when the loss no longer falls."""

     def __init__(self, patience):
         self.patience = patience
         self.best = float("inf")
         self.waited = 0

     def should_stop(self, loss):
         """Take in the loss of an epoch; tell whether to stop."""
         is_better = loss < self.best
         self.best = min(self.best, loss)
         self.waited = 0 if is_better else self.waited + 1
         if self.waited:
-            log.info("no better for %d epochs", self.waited)
+            print("no better for", self.waited, "epochs")
         return self.waited >= self.patience
@ stale-docstring web easy -
-def truncate(text, size):
-    """Return a text cut to at most `size` characters, with an ellipsis where it is cut."""
+def truncate(text, size):
+    """Return a text cut to at most `size` words, or None where it is short enough."""
     return text if len(text) <= size else text[: size - 1] + "…"
? ok = "words" not in truncate.__doc__
@ stale-docstring backend hard -
 class TokenBucket:
     """Lets so many calls through per second."""

     def __init__(self, rate, clock):
         self.rate = rate
         self.clock = clock
         self.left = rate
         self.filled_at = clock()

     def take(self):
-        """Take one call's share; tell whether there was one."""
+        """Wait until a call's share is there, then return the seconds waited."""
         now = self.clock()
         self.left = min(self.rate, self.left + (now - self.filled_at) * self.rate)
         self.filled_at = now
         if self.left < 1:
             return False
         self.left -= 1
         return True
? ok = "seconds" not in TokenBucket.take.__doc__
@ inconsistent-return backend easy RET503
 def status_of(code):
     """Return the word for a job's exit code."""
     words = {0: "done", 1: "failed", 137: "killed"}
-    return words.get(code, "unknown")
+    if code in words:
+        return words[code]
@ inconsistent-return mobile hard RET503
 class Route:
     """Stops of a delivery in the order in which they are served."""

     def __init__(self, stops):
         self.stops = stops

     def next_stop(self, done):
         """Return the first stop that is not done, or the depot."""
-        return next((stop for stop in self.stops if stop not in done), "depot")
~        for stop in self.stops:
+            if stop not in done:
+                return stop
+        if not self.stops:
+            return "depot"
@ unused-parameter web easy ARG001
-def discount_of(total_cents, is_member):
+def discount_of(total_cents, is_member, coupon):
     """Return the discount in cents: a tenth for members."""
     return total_cents // 10 if is_member else 0
@ unused-parameter devops hard ARG002
 class Alarm:
     """Rings when a value stays above a limit."""

     def __init__(self, limit):
         self.limit = limit
         self.values = []

-    def watch(self, value, times):
+    def watch(self, value, times, severity):
         """Take in a value; tell whether the last ones were all above the limit."""
         self.values.append(value)
         newest = self.values[-times:]
         return len(newest) == times and min(newest) > self.limit
@ mixed-responsibilities data-science medium -
-def parse_scores(lines):
-    """Return name -> score of lines such as 'ada 12'."""
-    pairs = (line.split() for line in lines)
-    return {name: int(score) for name, score in pairs}
~def parse_scores(path, mail):
~    """Return name -> score of the lines of a file, and mail the best name."""
+    with open(path, encoding="utf-8") as stream:
+        scores = {name: int(score) for name, score in (line.split() for line in stream)}
+    mail.send("scores", f"best: {max(scores, key=scores.get)}")
~    return scores
? ok = parse_scores.__code__.co_argcount == 1
@ mixed-responsibilities mobile hard -
 class StepCounter:
     """Counts steps by day."""

     def __init__(self, days=None):
         self.days = dict(days or {})

     def add(self, day, steps):
         """Add steps to a day; return the day's total."""
         self.days[day] = self.days.get(day, 0) + steps
+        with open("steps.csv", "a", encoding="utf-8") as stream:
+            stream.write(f"{day},{self.days[day]}\n")
         return self.days[day]

     def best_day(self):
         """Return the day with most steps, None without any."""
         return max(self.days, key=self.days.get, default=None)
? ok = "open" not in StepCounter.add.__code__.co_names
'''
