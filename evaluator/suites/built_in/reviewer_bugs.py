"""Bugs to plant, by kind, for localisation; `reviewer_plants` has the notation.

Every one changes what the code does, which its probe shows by running both versions.
"""

from evaluator.suites.built_in.reviewer_plants import Kind

KINDS = {
    kind.name: kind
    for kind in (
        Kind("off-by-one", "correctness", "high", "CWE-193", ()),
        Kind("wrong-comparison", "correctness", "high", "CWE-697", ()),
        Kind("inverted-condition", "correctness", "high", "CWE-670", ()),
        Kind("missing-empty-case", "correctness", "medium", "CWE-369", ()),
        Kind("wrong-variable", "correctness", "high", "CWE-688", ()),
        Kind("mutable-default", "correctness", "high", "CWE-665", ()),
        Kind("late-binding", "correctness", "medium", "", ()),
        Kind("wrong-division", "correctness", "medium", "CWE-682", ()),
        Kind("shared-reference", "correctness", "high", "CWE-374", ()),
        Kind("mutation-while-iterating", "correctness", "high", "CWE-1339", ()),
        Kind("exhausted-iterator", "correctness", "medium", "", ()),
        Kind("missing-reset", "correctness", "high", "CWE-665", ()),
        Kind("wrong-precedence", "correctness", "medium", "CWE-783", ()),
        Kind("text-instead-of-number", "correctness", "medium", "CWE-704", ()),
        Kind("early-return", "correctness", "high", "CWE-705", ()),
        Kind("swapped-arguments", "correctness", "high", "CWE-683", ()),
        Kind("wrong-initial-value", "correctness", "medium", "CWE-665", ()),
        Kind("falsy-zero", "correctness", "medium", "", ()),
    )
}

PLANTS = r'''
@ off-by-one data-science easy -
 def moving_average(values, width):
     """Return the means of all windows of `width` neighbouring values."""
-    starts = range(len(values) - width + 1)
+    starts = range(len(values) - width)
     return [sum(values[start : start + width]) / width for start in starts]
? ok = moving_average([1, 2, 3], 2) == [1.5, 2.5]
@ off-by-one web hard -
 class PageLinks:
     """The page numbers that stand under a list."""

     def __init__(self, total, size):
         self.total = total
         self.size = size

     def numbers(self):
         """Return the numbers of all pages, from 1; an empty list has one page."""
-        last = max(1, -(-self.total // self.size))
+        last = self.total // self.size + 1
         return list(range(1, last + 1))
? ok = PageLinks(20, 10).numbers() == [1, 2]
@ off-by-one backend medium -
 def leap_days(first, last):
     """Count the leap years from `first` to `last`, both included."""

     def up_to(year):
         return year // 4 - year // 100 + year // 400

-    return up_to(last) - up_to(first - 1)
+    return up_to(last) - up_to(first)
? ok = leap_days(2000, 2004) == 2
@ wrong-comparison backend easy -
 def shipping_class(grams):
     """Return letter up to 50 g, large up to 500 g, parcel above."""
-    if grams <= 50:
+    if grams < 50:
         return "letter"
     if grams <= 500:
         return "large"
     return "parcel"
? ok = shipping_class(50) == "letter"
@ wrong-comparison mobile hard -
 def overlaps(first, second):
     """Tell whether two stretches of time (start, end) overlap; touching is not overlapping."""
     if first[0] > second[0]:
         first, second = second, first
-    return second[0] < first[1]
+    return second[0] <= first[1]
? ok = not overlaps((1, 2), (2, 3)) and overlaps((1, 3), (2, 4))
@ wrong-comparison devops medium -
 def newer_version(first, second):
     """Return the newer of two versions such as '1.10.2'."""
-    parts = [tuple(int(part) for part in one.split(".")) for one in (first, second)]
+    parts = [tuple(one.split(".")) for one in (first, second)]
     return first if parts[0] >= parts[1] else second
? ok = newer_version("1.10", "1.9") == "1.10"
@ inverted-condition web easy -
 def visible_posts(posts, user):
     """Return the posts that a user may see: public ones and the user's own."""
     visible = []
     for post in posts:
-        if post["public"] or post["author"] == user:
+        if post["public"] or post["author"] != user:
             visible.append(post)
     return visible
? ok = visible_posts([{"public": False, "author": 2}], 1) == []
@ inverted-condition backend hard -
 class Retry:
     """Decides whether a failed call is made again."""

     def __init__(self, tries, transient):
         self.tries = tries
         self.transient = transient

     def should_retry(self, attempt, status):
         """Tell whether to try again after this attempt (from 1)."""
-        return attempt < self.tries and status in self.transient
+        return attempt < self.tries and not status >= min(self.transient)
? ok = Retry(3, (502, 503)).should_retry(1, 503) and not Retry(3, (502,)).should_retry(1, 404)
@ missing-empty-case data-science easy -
 def mean_or_none(values):
     """Return the mean of values, None without any."""
-    return sum(values) / len(values) if values else None
+    return sum(values) / len(values)
? ok = mean_or_none([]) is None
@ missing-empty-case mobile hard -
 class Trip:
     """Points of a trip with the time of each."""

     def __init__(self, points):
         self.points = points

     def mean_speed(self):
         """Return metres per second over the trip; 0 where no time passed."""
         metres = sum(point["metres"] for point in self.points)
-        seconds = self.points[-1]["at"] - self.points[0]["at"] if self.points else 0
+        seconds = self.points[-1]["at"] - self.points[0]["at"]
         return metres / seconds if seconds else 0.0
? ok = Trip([]).mean_speed() == 0.0
@ wrong-variable web easy -
 def cart_total(items, prices):
     """Return what the items (sku -> count) cost by the prices (sku -> cents)."""
     total = 0
     for sku, count in items.items():
-        total += count * prices[sku]
+        total += count * prices[count]
     return total
? ok = cart_total({5: 2}, {5: 10, 2: 1}) == 20
@ wrong-variable data-science hard -
 def confusion(expected, predicted, labels):
     """Return (expected, predicted) -> how often, for all pairs of labels."""
     counts = {(one, other): 0 for one in labels for other in labels}
     for want, got in zip(expected, predicted, strict=True):
-        counts[want, got] += 1
+        counts[got, want] += 1
     return counts
? ok = confusion("a", "b", "ab")["a", "b"] == 1
@ wrong-variable devops medium -
 def free_ports(first, last, used):
     """Return the ports from first to last that nobody uses."""
-    return [port for port in range(first, last + 1) if port not in used]
+    return [port for port in range(first, last + 1) if first not in used]
? ok = free_ports(1, 3, {2}) == [1, 3]
@ mutable-default web easy -
-def add_tag(tag, tags=None):
-    """Return the tags with one more; a new list without tags."""
-    tags = [] if tags is None else tags
+def add_tag(tag, tags=[]):
~    """Return the tags with one more; a new list without tags."""
     tags.append(tag)
     return tags
? add_tag("a")
? ok = add_tag("b") == ["b"]
@ mutable-default devops hard -
 class Step:
     """One step of a pipeline with what it needs."""

-    def __init__(self, name, needs=()):
+    def __init__(self, name, needs=set()):
         self.name = name
-        self.needs = set(needs)
~        self.needs = needs

     def after(self, *names):
         """Let this step wait for others; return it."""
         self.needs.update(names)
         return self
? Step("a").after("x")
? ok = Step("b").needs == set()
@ late-binding backend medium -
 def make_multipliers(factors):
     """Return one function per factor that multiplies by it."""
-    return [lambda value, factor=factor: value * factor for factor in factors]
+    return [lambda value: value * factor for factor in factors]
? ok = [f(1) for f in make_multipliers([1, 2, 3])] == [1, 2, 3]
@ late-binding mobile hard -
 class Menu:
     """Buttons with what they do."""

     def __init__(self):
         self.actions = {}

     def fill(self, names, choose):
         """Add a button per name that chooses it."""
         for name in names:
-            self.actions[name] = lambda chosen=name: choose(chosen)
+            self.actions[name] = lambda: choose(name)
? seen = []
? menu = Menu()
? menu.fill(["a", "b"], seen.append)
? menu.actions["a"]()
? ok = seen == ["a"]
@ wrong-division data-science easy -
 def progress_percent(done, total):
     """Return how much is done in percent, 0 to 100, rounded down."""
-    return 100 * done // total if total else 100
+    return done // total * 100 if total else 100
? ok = progress_percent(1, 2) == 50
@ wrong-division backend hard -
 def split_cents(total, parts):
     """Split an amount into parts that differ by at most one cent; the first are larger."""
     share, rest = divmod(total, parts)
-    return [share + (number < rest) for number in range(parts)]
+    return [round(total / parts) for number in range(parts)] if rest else [share] * parts
? ok = split_cents(100, 3) == [34, 33, 33]
@ shared-reference data-science easy -
 def empty_grid(rows, columns):
     """Return a grid of zeros, as a list of rows."""
-    return [[0] * columns for _ in range(rows)]
+    return [[0] * columns] * rows
? grid = empty_grid(2, 2)
? grid[0][0] = 1
? ok = grid[1][0] == 0
@ shared-reference backend hard -
 class Settings:
     """Settings with defaults, changed per tenant."""

     defaults = {"limits": {"calls": 100, "users": 5}}

     def __init__(self, changes):
-        self.limits = {**self.defaults["limits"], **changes}
+        self.limits = self.defaults["limits"]
+        self.limits.update(changes)

     def limit(self, name):
         """Return a limit by name."""
         return self.limits[name]
? Settings({"calls": 7})
? ok = Settings({}).limit("calls") == 100
@ mutation-while-iterating web easy -
 def drop_expired(sessions, now):
     """Remove the sessions that ended before now; return how many are left."""
-    for key in [key for key, end in sessions.items() if end < now]:
-        del sessions[key]
+    for key, end in sessions.items():
+        if end < now:
+            del sessions[key]
     return len(sessions)
? ok = drop_expired({1: 1, 2: 9, 3: 1}, 5) == 1
@ mutation-while-iterating devops hard -
 def settle(nodes):
     """Remove nodes that fail their check, in place; return those removed."""
     removed = []
-    for node in list(nodes):
+    for node in nodes:
         if not node["ok"]:
             nodes.remove(node)
             removed.append(node["name"])
     return removed
? ok = settle([{"ok": 0, "name": 1}, {"ok": 0, "name": 2}]) == [1, 2]
@ exhausted-iterator data-science medium -
 def normalised(values):
     """Return values, of any iterable, divided by their sum."""
-    known = list(values)
-    total = sum(known)
-    return [value / total for value in known]
+    total = sum(values)
+    return [value / total for value in values]
? ok = normalised(iter([1, 1])) == [0.5, 0.5]
@ exhausted-iterator mobile hard -
 class Contacts:
     """Contacts that are shown by the first letter of their name."""

     def __init__(self, names):
-        self.names = sorted(names)
+        self.names = map(str.strip, sorted(names))

     def letters(self):
         """Return the first letters, in order."""
         return sorted({name[0].upper() for name in self.names})

     def starting_with(self, letter):
         """Return the names with a first letter."""
         return [name for name in self.names if name[0].upper() == letter]
? contacts = Contacts(["ada"])
? contacts.letters()
? ok = contacts.starting_with("A") == ["ada"]
@ missing-reset data-science easy -
 def longest_run(values):
     """Return how often the same value stands in a row at most."""
     best = run = 0
     previous = object()
     for value in values:
-        run = run + 1 if value == previous else 1
+        run = run + 1 if value == previous else run
+        run = max(run, 1)
         best = max(best, run)
         previous = value
     return best
? ok = longest_run([1, 1, 2, 2]) == 2
@ missing-reset backend hard -
 class Batcher:
     """Collects rows and hands them on in batches."""

     def __init__(self, size, send):
         self.size = size
         self.send = send
         self.rows = []

     def add(self, row):
         """Keep a row; hand on a full batch."""
         self.rows.append(row)
         if len(self.rows) == self.size:
!            self.send(list(self.rows))
-            self.rows.clear()
? sent = []
? batcher = Batcher(2, sent.append)
? for i in range(4): batcher.add(i)
? ok = sent == [[0, 1], [2, 3]]
@ wrong-precedence web medium -
 def may_edit(user, post, is_frozen):
     """Tell whether a user may edit: editors and the author, unless all is frozen."""
-    return (user["editor"] or user["id"] == post["author"]) and not is_frozen
+    return user["editor"] or user["id"] == post["author"] and not is_frozen
? ok = not may_edit({"editor": True, "id": 1}, {"author": 2}, True)
@ wrong-precedence devops hard -
 def disk_alert(used, total, reserve):
     """Tell whether more than 90 % of what may be used of a disk is used."""
-    return used / (total - reserve) > 0.9
+    return used / total - reserve > 0.9
? ok = disk_alert(95, 110, 10)
@ text-instead-of-number backend medium -
 def cheapest(offers):
     """Return the name of the cheapest offer; prices come as text."""
-    return min(offers, key=lambda offer: float(offer["price"]))["name"]
+    return min(offers, key=lambda offer: offer["price"])["name"]
? ok = cheapest([{"name": "a", "price": "10"}, {"name": "b", "price": "9"}]) == "b"
@ text-instead-of-number data-science hard -
 def read_counts(lines):
     """Return the sum per name of lines such as 'ada,3'."""
     sums = {}
     for line in lines:
         name, _, count = line.partition(",")
-        sums[name] = sums.get(name, 0) + int(count)
+        sums[name] = sums[name] + count if name in sums else count
     return sums
? ok = read_counts(["a,1", "a,2"]) == {"a": 3}
@ early-return web easy -
 def is_strong(password):
     """Tell whether a password has a digit, a capital and twelve characters."""
     if len(password) < 12:
         return False
     checks = (str.isdigit, str.isupper)
     for check in checks:
-        if not any(check(letter) for letter in password):
-            return False
-    return True
+        return any(check(letter) for letter in password)
~    return True
? ok = not is_strong("aaaaaaaaaaa1")
@ early-return mobile hard -
 def first_conflict(changes, stored):
     """Return the first change whose version is older than the stored one, None without one."""
     for change in changes:
         known = stored.get(change["id"])
         if known is None:
-            continue
+            return None
         if change["version"] < known["version"]:
             return change
     return None
? ok = first_conflict([{"id": 1, "version": 1}, {"id": 2, "version": 1}], {2: {"version": 2}})
@ swapped-arguments backend easy -
 def days_left(today, end):
     """Return the days until the end, 0 when it is over."""

     def between(first, last):
         return (last - first).days

-    return max(0, between(today, end))
+    return max(0, between(end, today))
? import datetime
? ok = days_left(datetime.date(2024, 1, 1), datetime.date(2024, 1, 3)) == 2
@ swapped-arguments data-science hard -
 def rescale(values, low, high):
     """Return values moved from their own range to low..high."""

     def moved(value, source, target):
         share = (value - source[0]) / (source[1] - source[0])
         return target[0] + share * (target[1] - target[0])

     own = (min(values), max(values))
-    return [moved(value, own, (low, high)) for value in values]
+    return [moved(value, (low, high), own) for value in values]
? ok = rescale([0, 5, 10], 0, 1) == [0, 0.5, 1]
@ wrong-initial-value data-science easy -
 def largest_drop(values):
     """Return the largest fall from one value to the next; negative where all rise."""
-    return max(first - second for first, second in zip(values, values[1:], strict=False))
+    worst = 0
~    for first, second in zip(values, values[1:], strict=False):
~        worst = max(worst, first - second)
~    return worst
? ok = largest_drop([1, 3]) == -2
@ wrong-initial-value web hard -
 def product_rating(reviews):
     """Return the mean of stars weighted by helpful votes, each review counting at least once."""
     total = weight = 0
     for review in reviews:
-        votes = 1 + review["helpful"]
+        votes = review["helpful"]
         total += votes * review["stars"]
         weight += votes
     return total / weight if weight else None
? ok = product_rating([{"helpful": 0, "stars": 4}]) == 4
@ falsy-zero backend easy -
 def discount_or_default(discount, default=10):
     """Return the discount in percent, the default where none is given (None)."""
-    return default if discount is None else discount
+    return discount or default
? ok = discount_or_default(0) == 0
@ falsy-zero mobile hard -
 class Thermostat:
     """Wanted temperatures by hour, with a fallback."""

     def __init__(self, hours, fallback=18):
         self.hours = hours
         self.fallback = fallback

     def wanted(self, hour):
         """Return the wanted temperature of an hour."""
         planned = self.hours.get(hour)
-        if planned is None:
+        if not planned:
             return self.fallback
         return planned
? ok = Thermostat({3: 0}).wanted(3) == 0
'''
