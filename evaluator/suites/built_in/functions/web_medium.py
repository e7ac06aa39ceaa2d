"""Web, two or three interacting rules each: routes, templates, origins, cookies, limits."""

import html

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "slash": {
            "strict": "A slash at the end must be in both the pattern and the path, or in neither.",
            "lenient": "One slash at the end of the pattern or of the path makes no difference.",
        },
        "rest": {
            True: "A last segment `{*name}` takes all remaining segments, joined by '/'; at least "
            "one must remain (it may be empty).",
            False: "A last segment `{*name}` takes all remaining segments, joined by '/'; none "
            "need "
            "remain (the value is then '').",
        },
    },
    edges=[
        ["/users/{id}", "/users/42"],
        ["/files/{*path}", "/files/a/b.txt"],
        ["/users/{id}/", "/users/42"],
        ["/users/{id}", "/users/42/"],
        ["/files/{*path}", "/files"],
        ["/files/{*path}", "/files/"],
        ["/{a}/x/{b}", "/1/x/2"],
        ["/{a}/x/{b}", "/1/y/2"],
        ["/users/{id:int}", "/users/x1"],
        ["/users/{id:int}", "/users/007"],
        ["/", "/"],
        ["/a", "/A"],
        ["/a/{b}", "/a//"],
        ["/a/b", "/a"],
        ["/{x}", "/"],
    ],
    draw=lambda d: [
        "/a/" + d.choice(["b", "{x}", "{n:int}", "{x}/{*r}", "7/{*r}", "{x}/c", "{*r}"]),
        "/a/" + d.choice(["b", "7", "7/c", "7/c/b", "b/7"]) + d.choice(["", "", "/"]),
    ],
    n_examples=3,
)
def match_route(pattern: str, path: str, *, slash: str, rest: bool) -> dict[str, str] | None:
    """Match a URL path with a route pattern; return the parameters, or None for no match.

    Both begin with '/' and are compared segment by segment. A pattern segment `{name}` matches any
    one segment that is not empty, `{name:int}` one of digits 0-9 only; the value is the text. Any
    other segment must be equal, with its case.
    """
    if slash == "lenient":
        pattern, path = pattern.removesuffix("/"), path.removesuffix("/")
    wanted, given = pattern.split("/"), path.split("/")
    found: dict[str, str] = {}
    if wanted[-1].startswith("{*"):
        fixed = len(wanted) - 1
        if rest and len(given) <= fixed:
            return None
        found[wanted[-1][2:-1]] = "/".join(given[fixed:])
        wanted, given = wanted[:fixed], given[:fixed]
    if len(wanted) != len(given):
        return None
    for want, got in zip(wanted, given, strict=True):
        if want.startswith("{"):
            name, _, kind = want[1:-1].partition(":")
            if not got or (kind == "int" and not got.isdecimal()):
                return None
            found[name] = got
        elif want != got:
            return None
    return found


@family(
    rules={
        "missing": {
            "empty": "A name that is not among the values gives ''.",
            "keep": "A placeholder whose name is not among the values stays as it is written.",
        },
        "escape": {
            True: "`&`, `<`, `>`, `\"` and `'` in a value become `&amp;`, `&lt;`, `&gt;`, `&quot;` "
            "and `&#x27;`, unless the last filter is `raw`. This is done after all filters.",
            False: "Values are inserted as they are; the filter `raw` does nothing.",
        },
    },
    edges=[
        ["Hi {{ name }}!", {"name": "A&B"}],
        ["{{x|upper}} {{ y }}", {"x": "<b>"}],
        ["", {}],
        ["{{ a | trim | raw }}", {"a": " <i> "}],
        ["{{ a|raw|upper }}", {"a": "<i>"}],
        ["{{ a", {"a": "1"}],
        ["{{}}", {}],
        ["a }} b {{ c }}", {"c": "'\""}],
        ["{{ a|shout }}", {"a": "x"}],
        ["{{ no|shout }}", {}],
        ["{{a}}{{a}}", {"a": "{{b}}", "b": "2"}],
    ],
    draw=lambda d: [
        d.text(
            ["{{ a }}", "{{b|upper}}", "{{ c|trim }}", " x ", "{{ a|raw }}", "{{z}}", "}}"], 5, 2
        ),
        {"a": d.choice(["<p>", "x&y"]), "b": "a>b", "c": d.choice([" q ", "'"])},
    ],
    n_examples=3,
)
def fill_template(template: str, values: dict[str, str], *, missing: str, escape: bool) -> str:
    """Replace the placeholders `{{ name }}` of a template by values.

    A name may be followed by filters, each after a `|`, applied from left to right: `upper`, `trim`
    (no white space at both ends) and `raw`. An unknown filter is a ValueError, also where the name
    has no value. White space around names and filters does not matter. An opening `{{` without a
    `}}` after it is plain text, and so is a lone `}}`. Inserted values are not searched again.
    """
    parts = []
    while "{{" in template and "}}" in template[template.index("{{") :]:
        before, _, after = template.partition("{{")
        inside, _, template = after.partition("}}")
        name, *filters = (word.strip() for word in inside.split("|"))
        value = values.get(name, "")
        for word in filters:
            if word not in ("upper", "trim", "raw"):
                raise ValueError(f"unknown filter {word}")
            value = value.upper() if word == "upper" else value
            value = value.strip() if word == "trim" else value
        if escape and not (filters and filters[-1] == "raw"):
            value = html.escape(value)
        if missing == "keep" and name not in values:
            value = "{{" + inside + "}}"
        parts += [before, value]
    return "".join([*parts, template])


@family(
    rules={
        "depth": {
            "one": "`*.` stands for exactly one label: `https://*.a.com` allows "
            "`https://x.a.com` and not `https://x.y.a.com`.",
            "any": "`*.` stands for one or more labels: `https://*.a.com` allows "
            "`https://x.y.a.com` too, but not `https://a.com`.",
        },
        "credentials": {
            True: "The answer always names the origin itself, never '*'.",
            False: "Where the list holds the entry '*', the answer is '*'.",
        },
    },
    edges=[
        ["https://app.a.com", ["https://*.a.com"]],
        ["https://b.org", ["*"]],
        ["https://x.y.a.com", ["https://*.a.com"]],
        ["https://a.com", ["https://*.a.com"]],
        ["http://x.a.com", ["https://*.a.com"]],
        ["https://evila.com", ["https://*.a.com"]],
        ["null", ["*"]],
        ["https://a.com", []],
        ["https://A.com", ["https://a.com"]],
        ["https://x.a.com:8443", ["https://*.a.com"]],
        ["https://.a.com", ["https://*.a.com"]],
        ["https://a.com", ["https://a.com", "*"]],
        ["https://x..a.com", ["https://*.a.com"]],
        ["https://p.q.b.org", ["https://*.a.com", "https://*.b.org"]],
        ["https://x.y.z.a.com", ["https://*.a.com"]],
    ],
    draw=lambda d: [
        d.choice(["https://", "https://", "http://"])
        + d.choice(["", "x.", "x.y.", "X.Y."])
        + d.choice(["a.com", "b.org"]),
        d.choice(
            [
                ["https://*.a.com", "https://*.b.org"],
                ["https://*.b.org", "https://*.a.com", "http://b.org"],
                ["https://b.org", "https://*.a.com"],
                ["http://a.com", "*"],
            ]
        ),
    ],
)
def allow_origin(origin: str, allowed: list[str], *, depth: str, credentials: bool) -> str | None:
    """Return the value of the header Access-Control-Allow-Origin, or None where it is not sent.

    An entry of `allowed` is '*' (every origin, but `null` is never allowed), an origin, or an
    origin whose host begins with `*.`. Scheme, host and port must be equal, without regard to case.
    A label is not empty. The origin is answered as it was sent.
    """
    if origin == "null":
        return None
    if "*" in allowed and not credentials:
        return "*"
    scheme, _, host = origin.lower().partition("://")
    labels = host.split(".")
    for entry in allowed:
        entry_scheme, _, entry_host = entry.lower().partition("://")
        wild = entry_host.startswith("*.")
        wanted = entry_host.removeprefix("*.").split(".")
        extra = labels[: len(labels) - len(wanted)]
        fits = len(extra) == 0
        if wild:
            fits = all(extra) and (len(extra) == 1 if depth == "one" else len(extra) > 0)
        if entry == "*" or (fits and scheme == entry_scheme and labels[len(extra) :] == wanted):
            return origin
    return None


@family(
    rules={
        "prefix": {
            "segment": "The cookie's path fits a request path that equals it or continues it at a "
            "'/': `/a` fits `/a` and `/a/b`, not `/ab`.",
            "text": "The cookie's path fits every request path that begins with it: `/a` fits "
            "`/ab` too.",
        },
        "shadow": {
            True: "Of cookies with one name only the one with the longest path is sent (the first "
            "of equally long ones).",
            False: "All cookies that fit are sent, even several of one name.",
        },
    },
    edges=[
        [[["a", "1", "/", False]], "/x", True],
        [[["s", "1", "/", True], ["t", "2", "/app", False]], "/app/x", False],
        [[], "/", True],
        [[["a", "1", "/app", False]], "/apple", True],
        [[["a", "1", "/", False], ["a", "2", "/app", False]], "/app", True],
        [[["a", "1", "/x", False], ["a", "2", "/x", False]], "/x", True],
        [[["a", "1", "/app/", False]], "/app", True],
        [[["a", "1", "/app/", False]], "/app/b", True],
        [[["b", "1", "/", False], ["a", "2", "/", False], ["c", "", "/q", False]], "/q", False],
    ],
    draw=lambda d: [
        [
            [d.choice("ab"), str(n), d.choice(["/", "/a", "/a/", "/a/b"]), d.chance(0.3)]
            for n in range(d.randint(2, 5))
        ],
        d.choice(["/", "/a", "/ab", "/a/b", "/a/b/c"]),
        d.chance(),
    ],
)
def cookie_header(
    jar: list[list[str | bool]], path: str, secure: bool, *, prefix: str, shadow: bool
) -> str:
    """Return the Cookie header for a request: `name=value` pairs joined by '; '.

    A cookie is [name, value, path, secure only]; one that is secure only is sent where the request
    is secure. Cookies with longer paths come first, those of equal length in the order of the jar.
    Where none fits the result is ''.
    """
    fitting: list[tuple[int, str, str]] = []
    for name, value, own, only_secure in jar:
        if prefix == "segment":
            fits = path == own or path.startswith(str(own).removesuffix("/") + "/")
        else:
            fits = path.startswith(str(own))
        if fits and (secure or not only_secure):
            fitting.append((-len(str(own)), str(name), f"{name}={value}"))
    sent: list[str] = []
    seen: set[str] = set()
    for _, cookie, pair in sorted(fitting, key=lambda item: item[0]):
        if not shadow or cookie not in seen:
            sent.append(pair)
        seen.add(cookie)
    return "; ".join(sent)


@family(
    rules={
        "window": {
            "sliding": "A request is allowed where fewer than `limit` counted requests lie in the "
            "last `period` seconds (those exactly `period` ago no longer count).",
            "fixed": "Time is cut into windows [0, period), [period, 2 * period), ...; a request "
            "is "
            "allowed where fewer than `limit` counted requests lie in its window.",
        },
        "scope": {
            "client": "Every client is limited separately.",
            "all": "All clients share the limit.",
        },
    },
    edges=[
        [[["u", 0], ["u", 1], ["u", 2], ["u", 10]], 2, 10],
        [[["u", 0], ["v", 0], ["u", 5], ["u", 9], ["u", 11]], 1, 10],
        [[], 1, 5],
        [[["u", 4], ["u", 5]], 1, 5],
        [[["u", 0], ["u", 5], ["u", 9], ["u", 10]], 1, 5],
        [[["u", 3], ["u", 4], ["u", 5], ["u", 6], ["u", 7], ["u", 8], ["u", 9]], 2, 5],
    ],
    draw=lambda d: [
        [[d.choice("uv"), time] for time in sorted(d.ints(0, 24, 12, 7))],
        d.randint(1, 3),
        d.randint(3, 8),
    ],
)
def rate_limit(
    requests: list[list[str | int]], limit: int, period: int, *, window: str, scope: str
) -> list[bool]:
    """Tell for each request whether it is allowed.

    A request is [client, second], in order of time. A request that is not allowed does not count.
    """
    counted: dict[str, list[int]] = {}
    allowed = []
    for client, second in requests:
        earlier = counted.setdefault(str(client) if scope == "client" else "all", [])
        now = int(second)
        if window == "sliding":
            recent = sum(now - time < period for time in earlier)
        else:
            recent = sum(time // period == now // period for time in earlier)
        allowed.append(recent < limit)
        if recent < limit:
            earlier.append(now)
    return allowed
