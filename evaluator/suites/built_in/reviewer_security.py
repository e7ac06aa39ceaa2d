"""Weaknesses to plant, by kind, for reviews of security; `reviewer_plants` has the notation."""

from evaluator.suites.built_in.reviewer_plants import Kind

KINDS = {
    kind.name: kind
    for kind in (
        Kind("sql-injection", "security", "critical", "CWE-89", ("sqli",)),
        Kind(
            "command-injection",
            "security",
            "critical",
            "CWE-78",
            ("shell injection", "os command injection"),
        ),
        Kind(
            "code-injection",
            "security",
            "critical",
            "CWE-95",
            ("eval injection", "arbitrary code execution", "unsafe eval"),
        ),
        Kind(
            "template-injection",
            "security",
            "high",
            "CWE-1336",
            ("ssti", "format string injection"),
        ),
        Kind("path-traversal", "security", "high", "CWE-22", ("directory traversal", "zip slip")),
        Kind(
            "unsafe-deserialization",
            "security",
            "critical",
            "CWE-502",
            ("insecure deserialization", "unsafe pickle", "unsafe yaml load"),
        ),
        Kind("cross-site-scripting", "security", "high", "CWE-79", ("xss", "html injection")),
        Kind("server-side-request-forgery", "security", "high", "CWE-918", ("ssrf",)),
        Kind("open-redirect", "security", "medium", "CWE-601", ("unvalidated redirect",)),
        Kind(
            "hardcoded-credentials",
            "security",
            "high",
            "CWE-798",
            ("hardcoded password", "hardcoded secret", "hard coded credentials", "hardcoded key"),
        ),
        Kind(
            "weak-hash",
            "security",
            "high",
            "CWE-328",
            ("weak hashing", "md5", "sha1", "insecure hash"),
        ),
        Kind(
            "weak-password-storage",
            "security",
            "high",
            "CWE-916",
            ("unsalted password hash", "fast password hash"),
        ),
        Kind(
            "insecure-randomness",
            "security",
            "high",
            "CWE-330",
            ("insecure random", "predictable token", "weak random", "CWE-338"),
        ),
        Kind(
            "missing-certificate-check",
            "security",
            "high",
            "CWE-295",
            ("disabled tls verification", "certificate validation", "tls verification"),
        ),
        Kind(
            "loose-file-permissions",
            "security",
            "medium",
            "CWE-732",
            ("world writable", "file permissions", "insecure permissions"),
        ),
        Kind(
            "insecure-temporary-file",
            "security",
            "medium",
            "CWE-377",
            ("temp file", "temporary file", "mktemp"),
        ),
        Kind(
            "xml-external-entity",
            "security",
            "medium",
            "CWE-611",
            ("xxe", "entity expansion", "unsafe xml", "CWE-776"),
        ),
        Kind(
            "timing-attack",
            "security",
            "medium",
            "CWE-208",
            ("timing side channel", "non constant time comparison", "timing unsafe comparison"),
        ),
        Kind(
            "missing-authorization",
            "security",
            "high",
            "CWE-862",
            ("idor", "broken access control", "missing access check", "CWE-639"),
        ),
        Kind("mass-assignment", "security", "high", "CWE-915", ("over posting", "overposting")),
        Kind("log-injection", "security", "medium", "CWE-117", ("log forging",)),
        Kind(
            "secret-in-log",
            "security",
            "high",
            "CWE-532",
            ("sensitive data in log", "logged secret", "password in log", "logging secrets"),
        ),
        Kind(
            "missing-timeout",
            "security",
            "medium",
            "CWE-400",
            ("no timeout", "request without timeout"),
        ),
        Kind(
            "unbounded-read",
            "security",
            "medium",
            "CWE-770",
            (
                "unlimited upload",
                "missing size limit",
                "memory exhaustion",
                "decompression bomb",
                "CWE-409",
            ),
        ),
        Kind(
            "regex-denial-of-service",
            "security",
            "medium",
            "CWE-1333",
            ("redos", "catastrophic backtracking"),
        ),
        Kind(
            "error-detail-leak",
            "security",
            "medium",
            "CWE-209",
            (
                "information exposure",
                "stack trace exposure",
                "information leak",
                "CWE-489",
                "debug mode",
            ),
        ),
        Kind(
            "cleartext-transmission",
            "security",
            "medium",
            "CWE-319",
            ("unencrypted transmission", "plain http", "cleartext"),
        ),
        Kind(
            "unverified-signature",
            "security",
            "critical",
            "CWE-347",
            ("missing signature check", "signature not verified"),
        ),
        Kind("csv-injection", "security", "medium", "CWE-1236", ("formula injection",)),
        Kind(
            "header-injection",
            "security",
            "medium",
            "CWE-113",
            ("response splitting", "crlf injection", "CWE-93"),
        ),
        Kind(
            "insecure-cookie",
            "security",
            "medium",
            "CWE-614",
            ("cookie flags", "missing httponly", "missing secure flag", "CWE-1004"),
        ),
        Kind(
            "check-then-use-race",
            "security",
            "medium",
            "CWE-367",
            ("toctou", "time of check", "race condition"),
        ),
        Kind(
            "weak-cipher",
            "security",
            "high",
            "CWE-327",
            ("broken cipher", "weak encryption", "weak tls", "outdated tls"),
        ),
    )
}

PLANTS = r'''
@ sql-injection web easy S608
 def find_account(connection, email):
     """Return the account row for an address, or None."""
-    query = "SELECT id, email, plan FROM account WHERE email = ?"
-    return connection.execute(query, (email,)).fetchone()
+    query = f"SELECT id, email, plan FROM account WHERE email = '{email}'"
+    return connection.execute(query).fetchone()
? import sqlite3
? db = sqlite3.connect(":memory:")
? db.execute("CREATE TABLE account (id, email, plan)")
? db.execute("INSERT INTO account VALUES (1, 'a@x', 'free')")
? ok = find_account(db, "' OR '1'='1") is None
@ sql-injection backend hard S608
 ORDERS = {
     "created": "SELECT id FROM orders WHERE customer_id = ? ORDER BY created_at LIMIT ?",
     "total": "SELECT id FROM orders WHERE customer_id = ? ORDER BY total_cents LIMIT ?",
 }


 def list_orders(connection, customer_id, order_by="created", limit=50):
     """Return the ids of the oldest or cheapest orders of a customer."""
-    query = ORDERS[order_by]
+    query = ORDERS.get(order_by)
+    if query is None:
+        query = "SELECT id FROM orders WHERE customer_id = ? ORDER BY " + order_by + " LIMIT ?"
     return [row[0] for row in connection.execute(query, (customer_id, limit))]
@ sql-injection data-science medium -
 def events_since(connection, kinds, since):
     """Count the events of some kinds since a day, for the weekly report."""
-    marks = ", ".join("?" for _ in kinds)
-    query = "SELECT kind, COUNT(*) FROM event WHERE day >= ? AND kind IN (%s) GROUP BY kind"
-    return dict(connection.execute(query % marks, (since, *kinds)).fetchall())
+    names = ", ".join(f"'{kind}'" for kind in kinds)
+    query = "SELECT kind, COUNT(*) FROM event WHERE day >= ? AND kind IN (%s) GROUP BY kind"
+    return dict(connection.execute(query % names, (since,)).fetchall())
? import sqlite3
? db = sqlite3.connect(":memory:")
? db.execute("CREATE TABLE event (kind, day)")
? db.execute("INSERT INTO event VALUES ('a', 1)")
? ok = events_since(db, ["x') OR ('1'='1"], 0) == {}
@ command-injection devops easy S602
 import subprocess


 def archive_folder(folder, target):
     """Pack a folder into a gzipped archive; return the exit status of tar."""
-    return subprocess.run(["/bin/tar", "-czf", target, "--", folder], check=False).returncode
+    return subprocess.run(f"tar -czf {target} {folder}", shell=True, check=False).returncode
@ command-injection devops hard S605
-import subprocess
+import os


 def tail_of_log(service, lines=100):
     """Return the last lines that a service wrote to its log."""
     count = int(lines)
     unit = service.strip()
-    command = ["/usr/bin/journalctl", "--no-pager", "-n", str(count), "-u", unit]
-    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
-    return done.stdout.splitlines()
+    with os.popen("journalctl --no-pager -n %d -u %s" % (count, unit)) as stream:
~        return stream.read().splitlines()
@ code-injection data-science easy S307
 import ast


 def parse_literal(text):
     """Read a list or number that a user typed into the notebook's form."""
-    return ast.literal_eval(text)
+    return eval(text)
? ok = True
? try:
?     parse_literal("[].append(1)")
?     ok = False
? except ValueError:
?     pass
@ code-injection backend hard S102
 class RuleBook:
     """Named discount rules, each a threshold and a share."""

     def __init__(self):
         self.rules = {}

     def add(self, name, spec):
         """Add a rule of the form 'threshold:share'."""
-        threshold, _, share = spec.partition(":")
-        self.rules[name] = (float(threshold), float(share))
+        scope = {}
+        exec("threshold, share = " + spec.replace(":", ","), scope)
~        self.rules[name] = (scope["threshold"], scope["share"])

     def discount(self, name, amount):
         """Return what a rule takes off an amount."""
         threshold, share = self.rules[name]
         return amount * share if amount >= threshold else 0.0
@ template-injection web medium -
 from string import Template


 def render_greeting(pattern, user):
     """Fill a greeting that an administrator of a tenant wrote."""
-    return Template(pattern).safe_substitute(name=user.name, city=user.city)
+    return pattern.format(user=user)
? class U:
?     name, city = "Ada", "Paris"
?     def save(self): pass
? ok = "__builtins__" not in render_greeting("{user.save.__func__.__globals__}", U())
@ template-injection web hard S701
 import jinja2


 def render_invoice(source, invoice):
     """Render an invoice with the tenant's own template."""
-    environment = jinja2.sandbox.SandboxedEnvironment(autoescape=True)
+    environment = jinja2.Environment()
     template = environment.from_string(source)
     return template.render(number=invoice["number"], lines=invoice["lines"])
@ path-traversal web easy -
 from pathlib import Path

 UPLOADS = Path("/srv/uploads")


 def read_upload(name):
     """Return the bytes of an uploaded file, or None where there is none."""
-    path = (UPLOADS / name).resolve()
-    if not path.is_relative_to(UPLOADS):
-        return None
+    path = UPLOADS / name
+    if not path.exists():
+        return None
     return path.read_bytes()
? import tempfile
? folder = Path(tempfile.mkdtemp()).resolve()
? UPLOADS = folder / "uploads"
? UPLOADS.mkdir()
? (folder / "key").write_bytes(b"x")
? ok = read_upload("../key") is None
@ path-traversal devops hard -
 import os


 def member_target(root, member):
     """Return where a member of an archive may be written, None to skip it."""
     root = os.path.realpath(root)
     target = os.path.realpath(os.path.join(root, member))
-    if os.path.commonpath((root, target)) != root:
+    if not target.startswith(root):
         return None
     return target
? ok = member_target("/srv/app", "../app-secrets/key") is None
@ path-traversal backend medium S202
 import tarfile


 def unpack_bundle(archive, folder):
     """Unpack a plugin bundle; return the names of its files."""
     with tarfile.open(archive) as bundle:
         names = [member.name for member in bundle if member.isfile()]
-        bundle.extractall(folder, filter="data")
+        bundle.extractall(folder)
     return names
@ unsafe-deserialization data-science easy S301
-import json
+import pickle


 def load_features(blob):
     """Read a feature table that a worker sent over the queue."""
-    table = json.loads(blob)
+    table = pickle.loads(blob)
     return {name: list(column) for name, column in table.items()}
@ unsafe-deserialization devops medium S506
 import yaml


 def load_pipeline(text):
     """Read a pipeline definition that a repository brings along."""
-    spec = yaml.safe_load(text) or {}
+    spec = yaml.load(text, Loader=yaml.UnsafeLoader) or {}
     return [step["run"] for step in spec.get("steps", ())]
@ unsafe-deserialization mobile hard S302
-import json
+import marshal


 class OfflineQueue:
     """Actions that a phone recorded while it had no network."""

     def __init__(self, store):
         self.store = store

     def replay(self, packed):
         """Apply the packed actions in order; return how many there were."""
-        actions = json.loads(packed)
+        actions = marshal.loads(packed)
         for action in actions:
             self.store.apply(action["name"], action["value"])
         return len(actions)
@ cross-site-scripting web easy -
 from html import escape


 def comment_html(author, text):
     """Return a comment as a fragment of the page."""
-    return f"<article><b>{escape(author)}</b><p>{escape(text)}</p></article>"
+    return f"<article><b>{escape(author)}</b><p>{text}</p></article>"
? ok = "<script>" not in comment_html("a", "<script>")
@ cross-site-scripting web hard -
 import json


 def boot_script(settings):
     """Return the inline script that hands settings to the page."""
-    data = json.dumps(settings, sort_keys=True).replace("<", "\\u003c")
+    data = json.dumps(settings, sort_keys=True)
!    return f"<script>window.SETTINGS = {data};</script>"
? ok = boot_script({"a": "</script><script>x"}).count("</script>") == 1
@ server-side-request-forgery web medium -
 import ipaddress
 import socket
 from urllib.parse import urlsplit


 def may_fetch_preview(url):
     """Tell whether the preview service may fetch what a user linked."""
     parts = urlsplit(url)
     if parts.scheme != "https" or not parts.hostname:
         return False
-    address = ipaddress.ip_address(socket.gethostbyname(parts.hostname))
-    return address.is_global
+    return not parts.hostname.startswith(("localhost", "127."))
? ok = not may_fetch_preview("https://169.254.169.254/latest") and not may_fetch_preview("https://10.0.0.1/")
@ server-side-request-forgery backend easy -
 HOOKS = {"billing": "https://billing.internal/hook", "mail": "https://mail.internal/hook"}


-def call_hook(client, name, body):
-    """Post a body to one of our hooks; return the status."""
-    return client.post(HOOKS[name], content=body, timeout=5).status_code
~def call_hook(client, name, body):
~    """Post a body to one of our hooks, or to the address given; return the status."""
+    return client.post(HOOKS.get(name, name), content=body, timeout=5).status_code
? class _Client:
?     status_code = 200
?     def post(self, *_, **__): return self
? try:
?     call_hook(_Client(), "http://169.254.169.254/", b"")
?     ok = False
? except KeyError:
?     ok = True
@ open-redirect web easy -
 from urllib.parse import urlsplit


 def after_login(target):
     """Return where to send a user who has just logged in."""
-    parts = urlsplit(target.replace("\\", "/"))
-    if parts.scheme or parts.netloc or not target.startswith("/"):
-        return "/home"
-    return target
+    return target or "/home"
? ok = after_login("https://evil.example/") == "/home"
@ open-redirect mobile hard -
 from urllib.parse import urlsplit

 TRUSTED = ("example.com", "accounts.example.com")


 def deep_link_target(link):
     """Return the web page that a deep link opens, or the start page."""
     host = urlsplit(link).hostname or ""
-    if host in TRUSTED:
+    if host.endswith("example.com"):
         return link
     return "https://example.com/"
? ok = deep_link_target("https://evilexample.com/") == "https://example.com/"
@ hardcoded-credentials backend easy S105
 import os


 def database_url():
     """Return the address of the reporting database."""
-    password = os.environ["REPORTING_PASSWORD"]
+    password = "r3p0rting-Tr0ub4dor"
     return f"postgresql://reporting:{password}@db.internal/reports"
@ hardcoded-credentials mobile hard S107
 import hashlib
 import hmac


-def sign_push(payload, secret):
+def sign_push(payload, secret="Zk93-push-signing"):
     """Return the signature that the push gateway asks for."""
     return hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
@ weak-hash devops medium S324
 import hashlib


 def release_digest(chunks):
     """Return the digest under which a release is signed and downloaded."""
-    digest = hashlib.sha256()
+    digest = hashlib.md5()
     for chunk in chunks:
         digest.update(chunk)
     return digest.hexdigest()
@ weak-hash mobile hard S324
 import hashlib
 import hmac


 def sign_update(manifest, key):
     """Sign an update manifest for the app's updater."""
     lines = "\n".join(f"{name}={manifest[name]}" for name in sorted(manifest))
-    digest = hashlib.sha256(lines.encode()).digest()
+    digest = hashlib.sha1(lines.encode()).digest()
     return hmac.new(key, digest, hashlib.sha256).hexdigest()
@ weak-password-storage web easy -
 import hashlib
 import os


 def hash_password(password):
     """Return what is stored of a password."""
     salt = os.urandom(16)
-    key = hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
+    key = hashlib.sha256(salt + password.encode()).digest()
     return salt.hex() + "$" + key.hex()
? import hashlib
? calls = []
? kept, hashlib.scrypt = hashlib.scrypt, lambda *a, **k: calls.append(1) or b"x"
? hash_password("x")
? hashlib.scrypt = kept
? ok = bool(calls)
@ weak-password-storage backend hard -
 import hashlib

 ROUNDS = 600_000


 class Vault:
     """Passwords of service users."""

     def __init__(self, users):
         self.users = users

     def set_password(self, name, password, salt):
         """Store the derived key of a password."""
-        key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ROUNDS)
+        key = hashlib.pbkdf2_hmac("sha256", password.encode(), name.encode()[:4], 1)
         self.users[name] = {"salt": salt.hex(), "key": key.hex()}
? import hashlib
? rounds = []
? kept, hashlib.pbkdf2_hmac = hashlib.pbkdf2_hmac, lambda kind, p, s, n: rounds.append(n) or b"x"
? Vault({}).set_password("abcdef", "x", b"1")
? hashlib.pbkdf2_hmac = kept
? ok = rounds[0] >= 100_000
@ insecure-randomness web easy S311
-import secrets
+import random
 import string


 def reset_token(length=32):
     """Return the token of a password reset mail."""
     letters = string.ascii_letters + string.digits
-    return "".join(secrets.choice(letters) for _ in range(length))
+    return "".join(random.choice(letters) for _ in range(length))
@ insecure-randomness mobile hard S311
-import secrets
+import random
 import time


 class PairingCodes:
     """Codes that pair a phone with an account, valid for some minutes."""

     def __init__(self, clock=time.time):
         self.clock = clock
         self.codes = {}
+        self.dice = random.Random(int(clock()))

     def issue(self, account_id, minutes=5):
         """Return a new code for an account."""
-        code = f"{secrets.randbelow(10**8):08d}"
~        code = f"{self.dice.randrange(10**8):08d}"
         self.codes[code] = (account_id, self.clock() + 60 * minutes)
         return code
@ missing-certificate-check backend easy S501
 import requests


 def fetch_rates(url):
     """Return today's exchange rates."""
-    answer = requests.get(url, timeout=10)
+    answer = requests.get(url, timeout=10, verify=False)
     answer.raise_for_status()
     return answer.json()["rates"]
@ missing-certificate-check devops hard -
 import ssl


 def client_context(certificate=None):
     """Return the TLS context of the agents that talk to the controller."""
     context = ssl.create_default_context()
     context.minimum_version = ssl.TLSVersion.TLSv1_2
     if certificate is not None:
         context.load_verify_locations(certificate)
+    else:
+        context.check_hostname = False
+        context.verify_mode = ssl.CERT_NONE
     return context
? import ssl
? ok = client_context().verify_mode == ssl.CERT_REQUIRED
@ loose-file-permissions devops easy S103
 import os


 def install_script(path, text):
     """Write a maintenance script and make it executable for its owner."""
     with open(path, "w", encoding="utf-8") as stream:
         stream.write(text)
-    os.chmod(path, 0o700)
+    os.chmod(path, 0o777)
@ loose-file-permissions backend hard -
 import os


 def write_token(path, token):
     """Keep the refresh token of the service for its next start."""
-    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
+    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
     with os.fdopen(descriptor, "w") as stream:
         stream.write(token)
? import os, tempfile
? folder = tempfile.mkdtemp()
? mask = os.umask(0)
? write_token(folder + "/t", "x")
? os.umask(mask)
? ok = os.stat(folder + "/t").st_mode & 0o077 == 0
@ insecure-temporary-file data-science easy S306
 import csv
 import tempfile


 def spill_rows(rows):
     """Write rows to a temporary CSV file; return its path."""
-    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="", delete=False) as stream:
+    path = tempfile.mktemp(suffix=".csv")
+    with open(path, "w", newline="", encoding="utf-8") as stream:
         csv.writer(stream).writerows(rows)
     return stream.name
@ insecure-temporary-file devops hard S108
 import os
-import tempfile


 def lock_deployment(name, pid):
     """Create the lock of a deployment; return its path."""
-    folder = tempfile.mkdtemp(prefix="deploy-")
-    path = os.path.join(folder, f"{name}.lock")
+    path = os.path.join("/tmp", f"deploy-{name}.lock")
     with open(path, "w", encoding="ascii") as stream:
         stream.write(str(pid))
     return path
@ xml-external-entity backend easy S314
-import defusedxml.ElementTree
+import xml.etree.ElementTree


 def read_invoice(text):
     """Return the positions of an invoice that a supplier sent."""
-    root = defusedxml.ElementTree.fromstring(text)
+    root = xml.etree.ElementTree.fromstring(text)
     return [(item.get("sku"), float(item.get("price"))) for item in root.iter("item")]
@ xml-external-entity mobile hard S318
-import defusedxml.minidom
+import xml.dom.minidom


 def route_points(gpx):
     """Return the points of a track that the app uploaded."""
-    document = defusedxml.minidom.parseString(gpx)
+    document = xml.dom.minidom.parseString(gpx)
     points = document.getElementsByTagName("trkpt")
     return [(float(one.getAttribute("lat")), float(one.getAttribute("lon"))) for one in points]
@ timing-attack web medium -
 import hmac


 def may_enter(given_key, stored_key):
     """Tell whether the caller's API key is the stored one."""
     if not given_key:
         return False
-    return hmac.compare_digest(given_key.encode(), stored_key.encode())
+    return given_key == stored_key
? compared = []
? class Key(str):
?     def __eq__(self, other): compared.append(1); return str.__eq__(self, other)
?     __hash__ = str.__hash__
? may_enter(Key("a"), Key("b"))
? ok = not compared
@ timing-attack backend hard -
 import hashlib
 import hmac


 def is_from_partner(body, signature, key):
     """Tell whether a webhook body was signed with the shared key."""
     if not signature.startswith("sha256="):
         return False
     expected = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
-    return hmac.compare_digest(signature, expected)
+    return len(signature) == len(expected) and all(a == b for a, b in zip(signature, expected))
? import hmac
? used = []
? kept, hmac.compare_digest = hmac.compare_digest, lambda a, b: used.append(1) or a == b
? is_from_partner(b"x", "sha256=" + "0" * 64, b"k")
? hmac.compare_digest = kept
? ok = bool(used)
@ missing-authorization web easy -
 class Documents:
     """Documents that users share."""

     def __init__(self, rows):
         self.rows = rows

     def delete(self, user_id, document_id):
         """Remove a document of this user; tell whether it was there."""
         row = self.rows.get(document_id)
-        if row is None or row["owner"] != user_id:
+        if row is None:
             return False
!        del self.rows[document_id]
         return True
? ok = not Documents({1: {"owner": 7}}).delete(8, 1)
@ missing-authorization mobile hard -
 def sync_notes(user, changes, notes):
     """Apply the changes that a phone made offline; return the ids that were refused."""
     refused = []
     for change in changes:
         note = notes.get(change["id"])
         if note is None:
             notes[change["id"]] = {"owner": user["id"], "text": change["text"]}
-        elif note["owner"] == user["id"] or user["id"] in note.get("editors", ()):
+        elif note["owner"] == change.get("owner", user["id"]):
             note["text"] = change["text"]
         else:
             refused.append(change["id"])
     return refused
? notes = {1: {"owner": 7, "text": "a"}}
? ok = sync_notes({"id": 8}, [{"id": 1, "text": "b", "owner": 7}], notes) == [1]
@ mass-assignment web easy -
 EDITABLE = ("name", "city", "language")


 def update_profile(profile, form):
     """Take over what a user changed in the profile form."""
-    profile.update({key: form[key] for key in EDITABLE if key in form})
+    profile.update(form)
     return profile
? ok = not update_profile({"is_admin": False}, {"is_admin": True})["is_admin"]
@ mass-assignment backend hard -
 class Account:
     """A customer's account."""

     editable = frozenset(("email", "phone", "newsletter"))

     def __init__(self, email):
         self.email = email
         self.phone = ""
         self.newsletter = False
         self.credit = 0

     def patch(self, changes):
         """Change what a PATCH request names; unknown names are left out."""
         for name, value in changes.items():
-            if name in self.editable:
+            if hasattr(self, name):
                 setattr(self, name, value)
? account = Account("a")
? account.patch({"credit": 99})
? ok = account.credit == 0
@ log-injection web medium -
 import logging

 log = logging.getLogger("access")


 def record_login(name, succeeded):
     """Log an attempt to log in."""
-    log.info("login user=%r succeeded=%s", name, succeeded)
+    log.info("login user=%s succeeded=%s", name, succeeded)
? import logging
? lines = []
? class _Keep(logging.Handler):
?     def emit(self, record): lines.append(record.getMessage())
? log.setLevel(logging.INFO); log.addHandler(_Keep()); log.propagate = False
? record_login("x\nlogin user=admin", True)
? ok = "\n" not in lines[0]
@ log-injection devops hard -
 import io


 class AuditTrail:
     """One line per action: who did what, between tabs."""

     def __init__(self, stream=None):
         self.stream = stream or io.StringIO()

     def add(self, who, action, detail):
         """Append one line."""
-        fields = [str(one).encode("unicode_escape").decode() for one in (who, action, detail)]
+        fields = [str(one).strip() for one in (who, action, detail)]
!        self.stream.write("\t".join(fields) + "\n")
? trail = AuditTrail()
? trail.add("a", "b", "c\nroot\tdeleted\tall")
? ok = trail.stream.getvalue().count("\n") == 1
@ secret-in-log backend easy -
 import logging

 log = logging.getLogger("payments")


 def charge(gateway, card_number, amount_cents):
     """Charge a card; return the receipt."""
-    log.info("charging %d cents to a card ending in %s", amount_cents, card_number[-4:])
+    log.info("charging %d cents to card %s", amount_cents, card_number)
     return gateway.charge(card_number, amount_cents)
? import logging
? lines = []
? class _Keep(logging.Handler):
?     def emit(self, record): lines.append(record.getMessage())
? log.setLevel(logging.INFO); log.addHandler(_Keep()); log.propagate = False
? class _Gate:
?     def charge(self, *_): return 1
? charge(_Gate(), "4111111111111111", 5)
? ok = "4111111111111111" not in lines[0]
@ secret-in-log mobile hard -
 import logging

 log = logging.getLogger("session")
 HIDDEN = ("authorization", "cookie", "x-device-token")


 def log_request(method, path, headers):
     """Log a request of the app with its headers, without what would let others in."""
-    shown = {k: v for k, v in headers.items() if k.lower() not in HIDDEN}
+    shown = {k: v for k, v in headers.items() if k not in HIDDEN}
     log.info("%s %s %s", method, path, shown)
     return shown
? ok = "Authorization" not in log_request("GET", "/", {"Authorization": "Bearer x"})
@ missing-timeout backend easy S113
 import requests


 def notify_partner(url, payload):
     """Tell a partner about an order; return whether it took it."""
-    answer = requests.post(url, json=payload, timeout=10)
+    answer = requests.post(url, json=payload)
     return answer.status_code == 202
@ missing-timeout devops hard S113
 import requests


 class HealthProbe:
     """Asks the services of a cluster how they are, one after the other."""

     def __init__(self, services, timeout_s=2.0):
         self.services = services
         self.timeout_s = timeout_s

     def unhealthy(self):
         """Return the names of services that do not answer with 200."""
         found = []
         for name, url in self.services.items():
-            answer = requests.get(f"{url}/health", timeout=self.timeout_s)
+            answer = requests.get(f"{url}/health", timeout=None)
             if answer.status_code != 200:
                 found.append(name)
         return found
@ unbounded-read web medium -
 MAX_BODY = 1_000_000


 def read_body(stream, declared):
     """Return a request's body, None where it is too long."""
-    if declared > MAX_BODY:
-        return None
-    body = stream.read(MAX_BODY + 1)
-    return body if len(body) <= MAX_BODY else None
~    if declared > MAX_BODY:
~        return None
+    return stream.read()
? import io
? class _Stream(io.BytesIO):
?     asked = []
?     def read(self, n=-1): self.asked.append(n); return super().read(n)
? stream = _Stream(b"x" * 10)
? read_body(stream, 1)
? ok = stream.asked[0] > 0
@ unbounded-read mobile hard -
 import zlib

 MAX_TEXT = 200_000


 def unpack_report(packed):
     """Return the text of a crash report that a phone sent compressed."""
     reader = zlib.decompressobj()
-    text = reader.decompress(packed, MAX_TEXT)
-    if reader.unconsumed_tail:
-        raise ValueError("the crash report is too long")
+    text = reader.decompress(packed)
+    if len(text) > MAX_TEXT:
+        raise ValueError("the crash report is too long")
     return text.decode("utf-8", "replace")
? import zlib
? made = []
? class _Reader:
?     unconsumed_tail = b""
?     def decompress(self, data, most=0): made.append(most); return b"x"
? kept, zlib.decompressobj = zlib.decompressobj, _Reader
? unpack_report(b"x")
? zlib.decompressobj = kept
? ok = made[0] > 0
@ regex-denial-of-service web medium -
 import re

-SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
+SLUG = re.compile(r"([a-z0-9]+-?)+")


 def is_slug(text):
     """Tell whether a text is a slug: words of small letters with single dashes."""
     return SLUG.fullmatch(text) is not None
? ok = "+-?)+" not in SLUG.pattern
@ regex-denial-of-service backend hard -
 import re


 class HeaderRules:
     """Which header lines a proxy lets through."""

-    pattern = re.compile(r"[A-Za-z][A-Za-z-]*:[ \t]*[^\r\n]*")
+    pattern = re.compile(r"(?:[A-Za-z]+-?)*:(?:[ \t]|[^\r\n])*")

     def allowed(self, lines):
         """Return the lines that are well formed."""
         return [line for line in lines if self.pattern.fullmatch(line)]
? ok = ")*:" not in HeaderRules.pattern.pattern
@ error-detail-leak web easy S201
 from flask import Flask


 def serve(port):
     """Run the status page."""
     app = Flask("status")
     app.add_url_rule("/", view_func=lambda: "ok")
-    app.run(port=port)
+    app.run(port=port, debug=True)
@ error-detail-leak backend hard -
 import logging
 import traceback

 log = logging.getLogger("api")


 def answer_of(handler, request):
     """Return (status, body) of a handler; a failure is a plain 500."""
     try:
         return 200, handler(request)
     except LookupError:
         return 404, {"error": "not found"}
     except Exception:
         log.exception("handler failed")
-        return 500, {"error": "internal error"}
+        return 500, {"error": "internal error", "detail": traceback.format_exc()}
? import logging
? log.addHandler(logging.NullHandler()); log.propagate = False
? ok = "secret" not in str(answer_of(lambda r: int("secret"), None)[1])
@ cleartext-transmission mobile easy -
 from urllib.parse import urlencode


 def login_url(host, device):
     """Return the address where a device logs in with its token."""
-    return f"https://{host}/login?{urlencode({'device': device})}"
+    return f"http://{host}/login?{urlencode({'device': device})}"
? ok = login_url("a", "b").startswith("https:")
@ cleartext-transmission devops hard -
 class AlertMail:
     """Sends alerts through the mail server of the data centre."""

     def __init__(self, connect, user, password):
         self.connect = connect
         self.user = user
         self.password = password

     def send(self, mail):
         """Send one mail."""
         with self.connect() as server:
             server.ehlo()
-            server.starttls()
-            server.ehlo()
+            if server.has_extn("auth"):
+                server.login(self.user, self.password)
-            server.login(self.user, self.password)
             server.send_message(mail)
? done = []
? class _Server:
?     def __enter__(self): return self
?     def __exit__(self, *_): return None
?     def __getattr__(self, name): return lambda *_: done.append(name) or True
? AlertMail(_Server, "u", "p").send(None)
? ok = "starttls" in done and done.index("starttls") < done.index("login")
@ unverified-signature backend medium -
 import base64
 import hashlib
 import hmac
 import json


 def read_token(token, key):
     """Return the claims of a signed token, None where it is not ours."""
     body, _, signature = token.partition(".")
     expected = hmac.new(key, body.encode(), hashlib.sha256).hexdigest()
-    if not hmac.compare_digest(expected, signature):
+    if len(signature) != len(expected):
         return None
     return json.loads(base64.urlsafe_b64decode(body))
? import base64
? body = base64.urlsafe_b64encode(b'{"sub": 1}').decode()
? ok = read_token(body + "." + "0" * 64, b"k") is None
@ unverified-signature web hard -
 import base64
 import hashlib
 import hmac
 import json

 ALGORITHMS = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}


 def claims_of(token, key):
     """Return the claims of a token in three parts; ValueError where it cannot be trusted."""
     head, body, signature = token.split(".")
     algorithm = json.loads(base64.urlsafe_b64decode(head))["alg"]
-    digest = ALGORITHMS.get(algorithm)
-    if digest is None:
-        raise ValueError("algorithm not allowed")
-    expected = hmac.new(key, f"{head}.{body}".encode(), digest).hexdigest()
-    if not hmac.compare_digest(expected, signature):
-        raise ValueError("signature does not fit")
+    if algorithm in ALGORITHMS:
~        digest = ALGORITHMS[algorithm]
~        expected = hmac.new(key, f"{head}.{body}".encode(), digest).hexdigest()
~        if not hmac.compare_digest(expected, signature):
~            raise ValueError("signature does not fit")
     return json.loads(base64.urlsafe_b64decode(body))
? import base64
? part = lambda t: base64.urlsafe_b64encode(t.encode()).decode()
? try:
?     claims_of(part('{"alg": "none"}') + "." + part('{"sub": 1}') + ".", b"k")
?     ok = False
? except ValueError:
?     ok = True
@ csv-injection data-science medium -
 import csv
 import io


 def export_contacts(contacts):
     """Return contacts as CSV for a spreadsheet."""
     out = io.StringIO()
     writer = csv.writer(out)
     for contact in contacts:
-        writer.writerow([f"'{one}" if one[:1] in "=+-@" else one for one in contact])
+        writer.writerow([one.strip() for one in contact])
     return out.getvalue()
? ok = not export_contacts([("=cmd()", "x")]).startswith("=")
@ csv-injection backend hard -
 import csv


 class LedgerExport:
     """Writes bookings as CSV that accountants open in a spreadsheet."""

     columns = ("day", "amount", "reference")

     def __init__(self, stream):
         self.writer = csv.DictWriter(stream, self.columns)

     def add(self, booking):
         """Write one booking."""
         row = {name: str(booking[name]) for name in self.columns}
-        if row["reference"].startswith(("=", "+", "-", "@", "\t", "\r")):
+        if row["reference"].startswith(("==", "\t", "\r")):
             row["reference"] = "'" + row["reference"]
         self.writer.writerow(row)
? import io
? out = io.StringIO()
? LedgerExport(out).add({"day": "d", "amount": 1, "reference": "=cmd()"})
? ok = "'=cmd()" in out.getvalue()
@ header-injection web medium -
 def download_headers(name, size):
     """Return the head of a download as lines."""
-    safe = "".join(c for c in name if c.isalnum() or c in "._- ")
+    safe = name.replace('"', "")
     return (
!        f'Content-Disposition: attachment; filename="{safe}"\r\n'
         f"Content-Length: {size}\r\n"
     )
? ok = "Set-Cookie:" not in download_headers("a\r\nSet-Cookie: x", 1)
@ header-injection backend hard -
 from email.message import EmailMessage


 def reply_mail(sender, recipient, subject, text):
     """Return the source of a reply to a support request."""
-    mail = EmailMessage()
-    mail["From"], mail["To"], mail["Subject"] = sender, recipient, f"Re: {subject}"
-    mail.set_content(text)
-    return mail.as_string()
+    mail = EmailMessage()
~    mail.set_content(text)
+    return f"From: {sender}\nTo: {recipient}\nSubject: Re: {subject}\n" + mail.as_string()
? try:
?     made = reply_mail("a@x.org", "b@x.org", "s\nBcc: all@x.org", "t")
?     ok = "\nBcc" not in made
? except ValueError:
?     ok = True
@ insecure-cookie web easy -
 from http.cookies import SimpleCookie


 def session_cookie(value):
     """Return the Set-Cookie header of a session."""
     cookie = SimpleCookie()
     cookie["session"] = value
     cookie["session"]["path"] = "/"
     cookie["session"]["samesite"] = "Lax"
-    cookie["session"]["secure"] = True
-    cookie["session"]["httponly"] = True
!    return cookie["session"].OutputString()
? ok = "secure" in session_cookie("x").lower() and "httponly" in session_cookie("x").lower()
@ insecure-cookie backend hard -
 class CookieJar:
     """Builds the cookies of an answer."""

     def __init__(self, domain, is_secure=True):
         self.domain = domain
         self.is_secure = is_secure

     def login(self, token, days=30):
         """Return the cookie that keeps a user logged in."""
         parts = [f"login={token}", f"Domain={self.domain}", f"Max-Age={days * 86400}"]
-        parts += ["HttpOnly", "SameSite=Lax"]
+        parts += ["SameSite=None"]
         if self.is_secure:
             parts.append("Secure")
         return "; ".join(parts)
? ok = "HttpOnly" in CookieJar("x").login("t")
@ check-then-use-race devops medium -
 import os


 def claim_job(path, worker):
     """Claim a job by creating its claim file; tell whether we were first."""
-    try:
-        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
-    except FileExistsError:
-        return False
-    with os.fdopen(descriptor, "w") as stream:
-        stream.write(worker)
-    return True
+    if os.path.exists(path):
~        return False
+    with open(path, "w", encoding="utf-8") as stream:
~        stream.write(worker)
~    return True
? import os, tempfile
? path = tempfile.mkdtemp() + "/c"
? open(path, "w").close()
? kept, os.path.exists = os.path.exists, lambda p: False
? ok = not claim_job(path, "w")
? os.path.exists = kept
@ check-then-use-race backend hard -
 import threading


 class Wallet:
     """A balance that several requests draw from at once."""

     def __init__(self, cents):
         self.cents = cents
         self.lock = threading.Lock()

     def withdraw(self, cents):
         """Take an amount if there is enough; tell whether."""
-        with self.lock:
-            if self.cents < cents:
-                return False
-            self.cents -= cents
-            return True
+        if self.cents < cents:
+            return False
+        with self.lock:
+            self.cents -= cents
~            return True
? import threading
? wallet = Wallet(10)
? class _Late:
?     def __enter__(self): wallet.cents = 0
?     def __exit__(self, *_): return None
? wallet.lock = _Late()
? wallet.withdraw(10)
? ok = wallet.cents >= 0
@ weak-cipher backend medium S502
 import ssl
 import socket


 def secure_socket(host, port):
     """Return a TLS connection to a ledger node."""
     plain = socket.create_connection((host, port), timeout=10)
-    context = ssl.create_default_context()
-    return context.wrap_socket(plain, server_hostname=host)
+    return ssl.wrap_socket(plain, ssl_version=ssl.PROTOCOL_TLSv1)
@ weak-cipher mobile hard S305
 from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


 def seal_backup(key, nonce, data):
     """Encrypt a phone's backup; return tag and ciphertext."""
-    cipher = Cipher(algorithms.AES(key), modes.GCM(nonce))
+    cipher = Cipher(algorithms.AES(key), modes.ECB(nonce))
     worker = cipher.encryptor()
     sealed = worker.update(data) + worker.finalize()
     return getattr(worker, "tag", b"") + sealed
'''
