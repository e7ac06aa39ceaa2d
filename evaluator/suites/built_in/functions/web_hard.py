"""Web, subtle rules: resolving URLs, templates with loops, content negotiation, robots files."""

import re
from typing import Any

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "above": {
            "drop": "A '..' at the root is dropped.",
            "error": "A '..' at the root raises ValueError.",
        },
        "empty": {
            "keep": "Empty segments ('//' inside a path) are kept, and '..' removes one like any "
            "other segment.",
            "squeeze": "Empty segments ('//' inside a path) are removed before anything else.",
        },
    },
    edges=[
        ["http://a.com/b/c/d?q", "../e"],
        ["http://A.com:80/x/", "./y/../z?k#f"],
        ["http://a.com/b/c", ""],
        ["http://a.com/b/c?x", "?y"],
        ["http://a.com/b?x", "#f"],
        ["http://a.com/b", "/c/./d"],
        ["http://a.com/b", "//B.org:443/x"],
        ["https://a.com/b", "//b.org:443"],
        ["http://a.com/b", "HTTPS://c.net:8443/../q"],
        ["http://a.com/b", "../../c"],
        ["http://a.com", "c"],
        ["http://a.com/b/c/", ".."],
        ["http://a.com/b/c/", "."],
        ["http://a.com/b//c", "../d"],
        ["http://a.com/b/", "x//../y"],
        ["http://a.com:8080/b", "c?d=/../e"],
        ["http://a.com/b/c/d", "...//.e"],
    ],
    draw=lambda d: [
        "http://a.com/" + d.choice(["", "b", "b/", "b/c/", "b//c/d"]) + d.choice(["", "?q"]),
        d.choice(["", "", "/"])
        + "/".join(d.some(["..", ".", "x", ""], 5, 1))
        + d.choice(["", "?r"]),
    ],
    n_examples=3,
)
def resolve_url(base: str, reference: str, *, above: str, empty: str) -> str:
    """Resolve a reference against a base URL, as a browser does with a link, and normalise it.

    The base is `scheme://host[:port][path][?query]`. A reference is one of
    - `scheme://...` with http or https in any case: a whole URL;
    - `//host...`: takes the scheme of the base;
    - `/path...`: takes scheme and host of the base;
    - `?query`: takes the path of the base too; `` (empty): takes path and query of the base;
    - anything else: a path that replaces what follows the last '/' of the base's path.

    A fragment (from '#' on) is dropped first. '.' and '..' segments of the path (never of the
    query) are resolved; one at the end leaves a '/' at the end. Scheme and host are written in
    lower case, the ports :80 of http and :443 of https are left out, an empty path becomes '/'.
    The path of the base alone, where it is taken unchanged, is normalised in the same way.
    """

    def split(url: str) -> tuple[str, str, str, str]:
        address, mark, query = url.partition("?")
        scheme, _, rest = address.partition("://")
        host, slash, path = rest.partition("/")
        return scheme.lower(), host.lower(), slash + path, mark + query

    def clean(path: str) -> str:
        segments = path.split("/")[1:]
        if empty == "squeeze":
            folder = bool(segments) and segments[-1] in ("", ".", "..")
            segments = [segment for segment in segments if segment]
        else:
            folder = bool(segments) and segments[-1] in (".", "..")
        kept: list[str] = []
        for segment in segments:
            if segment == "..":
                if kept:
                    kept.pop()
                elif above == "error":
                    raise ValueError("above the root")
            elif segment != ".":
                kept.append(segment)
        return "/" + "/".join(kept) + ("/" if folder and kept else "")

    reference = reference.partition("#")[0]
    scheme, host, path, query = split(base)
    link, mark, own_query = reference.partition("?")
    if re.match("https?://", link.lower()):
        scheme, host, path, query = split(reference)
    elif link.startswith("//"):
        _, host, path, query = split(scheme + ":" + reference)
    elif link.startswith("/"):
        path, query = link, mark + own_query
    elif link:
        path, query = (path.rpartition("/")[0] or "") + "/" + link, mark + own_query
    elif mark:
        query = mark + own_query
    default = {"http": ":80", "https": ":443"}[scheme]
    return scheme + "://" + host.removesuffix(default) + clean(path) + query


@family(
    rules={
        "missing": {
            "error": "A name without a value raises KeyError where it is reached (not in a part "
            "that "
            "is not rendered).",
            "empty": "A name without a value is '' in a placeholder, no items in a loop and false "
            "in "
            "a condition.",
        },
        "scope": {
            "inner": "The loop's name is known inside the loop only; afterwards it is what it was "
            "before.",
            "leak": "The loop's name keeps its last item after the loop.",
        },
    },
    edges=[
        ["{% for x in xs %}{{ x }},{% end %}", {"xs": ["a", "b"]}],
        ["{% if on %}yes {{ n }}{% else %}no{% end %}", {"on": "", "n": "1"}],
        ["{% for x in xs %}{% end %}{{ x }}", {"xs": ["p", "q"], "x": "old"}],
        ["plain", {}],
        ["{{ n }}", {}],
        ["{% if n %}a{% end %}b", {}],
        ["{% for x in n %}a{% end %}b", {}],
        ["{% if a %}{{ n }}{% end %}", {"a": ""}],
        [
            "{% for x in xs %}{% for y in ys %}{{x}}{{y}} {% end %};{% end %}",
            {"xs": ["1", "2"], "ys": ["a", "b"]},
        ],
        ["{% for x in xs %}{% if x %}{{ x }}{% else %}-{% end %}{% end %}", {"xs": ["1", "", "2"]}],
        ["{% end %}", {}],
        ["{% if a %}", {"a": "1"}],
        ["{% else %}", {}],
        ["{% if a %}{% else %}{% else %}{% end %}", {"a": "1"}],
        ["{% for x in xs %}{% else %}{% end %}", {"xs": ["1"]}],
        ["{% loop %}", {}],
        ["a }} b", {}],
        ["{% for x of xs %}{% end %}", {"xs": []}],
        ["{% if not a %}A{% else %}B{% end %}{% if not b %}C{% end %}", {"a": "", "b": "1"}],
    ],
    draw=lambda d: [
        d.choice(["{% for x in xs %}", "{% for x in ys %}"])
        + d.text(
            ["{{ x }}", ".", "{% if x %}T{% else %}F{% end %}", "{% if not z %}Z{% end %}"], 3, 1
        )
        + "{% end %}"
        + "{{ x }}"
        + d.text(["{{ y }}", "-"], 2),
        {
            "xs": d.few(["a", "b", ""], 3, 1),
            "ys": d.few(["1", "2"], 2),
            **d.choice([{"y": "Y"}, {"x": "X", "y": "", "z": "1"}, {"x": "0", "y": "1", "z": ""}]),
        },
    ],
    n_examples=3,
)
def render(template: str, values: dict[str, Any], *, missing: str, scope: str) -> str:
    """Render a template with placeholders, loops and conditions.

    `{{ name }}` inserts a text. `{% for name in list %} ... {% end %}` repeats its body for every
    item of a list. `{% if name %} ... {% else %} ... {% end %}` renders the first part if the value
    is true in Python's sense, otherwise the second, which may be missing; `{% if not name %}` is
    the opposite. Blocks nest. White space inside the braces separates words and does not matter
    otherwise; all other text is copied. An unknown tag, a tag without its partner or an else in the
    wrong place raises ValueError, before anything is rendered.
    """
    tokens = re.split(r"({{.*?}}|{%.*?%})", template)
    position = 0

    def block(closers: tuple[str, ...]) -> tuple[list[Any], str]:
        nonlocal position
        nodes: list[Any] = []
        while position < len(tokens):
            token = tokens[position]
            position += 1
            if not token.startswith("{%"):
                nodes.append(token)
                continue
            words = token[2:-2].split()
            if words in (["end"], ["else"]):
                if words[0] not in closers:
                    raise ValueError(token)
                return nodes, words[0]
            if len(words) == 4 and words[0] == "for" and words[2] == "in":
                nodes.append((words, block(("end",))[0], []))
            elif len(words) in (2, 3) and words[0] == "if" and words[1:-1] in ([], ["not"]):
                body, closer = block(("end", "else"))
                other = block(("end",))[0] if closer == "else" else []
                nodes.append((words, body, other))
            else:
                raise ValueError(token)
        if closers:
            raise ValueError("a block has no end")
        return nodes, ""

    def value(name: str, names: dict[str, Any], default: Any) -> Any:
        if missing == "error":
            return names[name]
        return names.get(name, default)

    def run(nodes: list[Any], names: dict[str, Any]) -> str:
        parts = []
        for node in nodes:
            if isinstance(node, str):
                inserted = node.startswith("{{") and node.endswith("}}")
                parts.append(value(node[2:-2].strip(), names, "") if inserted else node)
                continue
            words, body, other = node
            if words[0] == "if":
                truth = bool(value(words[-1], names, "")) == (len(words) == 2)
                parts.append(run(body if truth else other, names))
                continue
            inner = dict(names) if scope == "inner" else names
            for item in value(words[3], names, []):
                inner[words[1]] = item
                parts.append(run(body, inner))
        return "".join(parts)

    return run(block(())[0], dict(values))


@family(
    rules={
        "tie": {
            "server": "Of types with equal quality the one that comes first in `offered` is "
            "chosen.",
            "client": "Of types with equal quality the one whose range comes first in the header "
            "is "
            "chosen; if that is the same, the one that comes first in `offered`.",
        },
        "fallback": {
            True: "Where nothing acceptable is offered, the first offered type is chosen.",
            False: "Where nothing acceptable is offered, the result is None.",
        },
    },
    edges=[
        ["text/html, application/json;q=0.9", ["application/json", "text/html"]],
        ["text/*;q=0.5, text/plain", ["text/html", "text/plain"]],
        ["", ["text/html"]],
        ["image/png", ["text/html"]],
        ["*/*, text/html;q=0", ["text/html", "text/plain"]],
        ["b/x, a/x", ["a/x", "b/x"]],
        ["text/html;q=0", ["text/html"]],
        ["TEXT/HTML", ["text/html"]],
        ["text/html;level=1;q=0.3, */*;q=0.2", ["text/html", "a/b"]],
        ["text/html;q=abc, a/b;q=0.1", ["text/html", "a/b"]],
        ["text/html;q=1.5, a/b;q=0.1", ["text/html", "a/b"]],
        ["*/*;q=0.1, text/*;q=0.9, text/html;q=0.4", ["a/b", "text/html", "text/css"]],
        [",, a/b ,", ["c/d", "a/b"]],
        ["a/*, a/b;q=0.3", ["a/b"]],
        ["*, a/b", ["a/b"]],
    ],
    draw=lambda d: [
        ", ".join(
            name + d.choice(["", "", "", ";q=0.5", ";q=0"])
            for name in d.sample(["a/b", "a/c", "x/y", "a/*", "*/*"], d.randint(2, 4))
        ),
        d.sample(["a/b", "a/c", "x/y", "z/z"], d.randint(2, 4)),
    ],
    n_examples=3,
)
def negotiate(accept: str, offered: list[str], *, tie: str, fallback: bool) -> str | None:
    """Choose the media type of a response from the Accept header; `offered` is not empty.

    The header lists ranges separated by commas: `type/subtype`, `type/*` or `*/*`, compared without
    regard to case, each with parameters after ';'. The parameter `q` is its quality, a decimal
    number from 0 to 1, 1 where it is missing; other parameters are ignored. A range that has no
    '/', or whose quality is no such number, is ignored. The quality of an offered type is that of
    the most specific range that matches it (the first of equally specific ones); 0 means not
    acceptable, and so does no match. The offered type with the highest quality is chosen. A header
    without any valid range accepts everything equally.
    """
    ranges: list[tuple[str, str, float]] = []
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        kind, slash, subtype = name.partition("/")
        quality = "1"
        for parameter in parameters:
            key, _, text = parameter.partition("=")
            if key.strip() == "q":
                quality = text.strip()
        if slash and re.fullmatch(r"\d+(\.\d*)?", quality) and float(quality) <= 1:
            ranges.append((kind, subtype, float(quality)))
    if not ranges:
        return offered[0]
    best: tuple[float, int, int] | None = None
    for place, candidate in enumerate(offered):
        kind, _, subtype = candidate.lower().partition("/")
        matches = []
        for index, (range_kind, range_subtype, weight) in enumerate(ranges):
            if range_kind in (kind, "*") and range_subtype in (subtype, "*"):
                loose = (range_kind == "*") + (range_subtype == "*")
                matches.append((loose, index, weight))
        if not matches:
            continue
        _, index, weight = min(matches)
        rank = (-weight, index if tie == "client" else place, place)
        if weight > 0 and (best is None or rank < best):
            best = rank
    if best is None:
        return offered[0] if fallback else None
    return offered[best[2]]


@family(
    rules={
        "winner": {
            "longest": "Of the rules that match, the one with the longest pattern decides; of "
            "equally long ones an Allow.",
            "first": "Of the rules that match, the first one in the group decides.",
        },
        "agent": {
            "exact": "A group is for a crawler where it names it, without regard to case.",
            "prefix": "A group is for a crawler where the crawler's name begins with the name in "
            "the "
            "group, without regard to case; of several such names only the longest counts.",
        },
    },
    edges=[
        ["User-agent: *\nDisallow: /private\nAllow: /private/ok", "bot", "/private/ok/1"],
        ["User-agent: bot\nDisallow: /a*z$", "botnews", "/abz"],
        ["", "bot", "/"],
        ["User-agent: bot\nDisallow:", "bot", "/x"],
        ["Disallow: /", "bot", "/x"],
        [
            "User-agent: a\nUser-agent: b\nDisallow: /x # note\nUser-agent: *\nDisallow: /",
            "B",
            "/y",
        ],
        ["User-agent: *\nDisallow: /a$", "bot", "/ab"],
        ["User-agent: *\nDisallow: /a$", "bot", "/a"],
        ["User-agent: *\nDisallow: /*.php", "bot", "/x/y.php?z"],
        ["user-AGENT: *\ndisallow : /x", "bot", "/x"],
        ["User-agent: bot\nAllow: /\nUser-agent: bot\nDisallow: /x", "bot", "/x"],
        ["User-agent: *\nAllow: /p\nDisallow: /q", "bot", "/q"],
        ["User-agent: *\nDisallow: /a\nAllow: /a", "bot", "/a"],
        ["User-agent: bot\nAllow: /\nUser-agent: botnews\nDisallow: /", "botnews-image", "/"],
        ["User-agent: *\nDisallow: /\nnonsense\nUser-agent: bot\nAllow: /z", "bot", "/y"],
        ["User-agent: *\nDisallow: /a.c", "bot", "/abc"],
    ],
    draw=lambda d: [
        "\n".join(
            d.choice(["Allow: ", "Disallow: ", "Disallow: "])
            + d.choice(["/", "/a", "/a/b", "/*b", "/a$", "/a/*"])
            if n % 4
            else "User-agent: " + d.choice(["*", "bot", "botnews"])
            for n in range(d.randint(4, 8))
        ),
        d.choice(["bot", "botnews"]),
        d.choice(["/", "/a", "/a/b", "/a/c", "/xb"]),
    ],
)
def may_crawl(robots: str, crawler: str, path: str, *, winner: str, agent: str) -> bool:
    """Tell whether a robots.txt allows a crawler to fetch a path.

    A line is `field: value`, with white space around both ignored, fields without regard to case,
    and everything from '#' on dropped. One or more User-agent lines in a row begin a group; the
    Allow and Disallow lines after them belong to it. Other lines are ignored, and so are rules
    before the first group and rules with an empty value. The rules of all groups that are for the
    crawler are taken together, in order; where no group is, those of the groups for `*`. A pattern
    matches at the beginning of the path; `*` stands for any text, a `$` at its end for the end of
    the path. Where no rule matches, crawling is allowed.
    """
    groups: list[tuple[list[str], list[tuple[bool, str]]]] = []
    for line in robots.split("\n"):
        field, colon, value = (part.strip() for part in line.partition("#")[0].partition(":"))
        field = field.lower()
        if field == "user-agent" and colon:
            if not groups or groups[-1][1]:
                groups.append(([], []))
            groups[-1][0].append(value.lower())
        elif field in ("allow", "disallow") and groups:
            groups[-1][1].append((field == "allow", value))
    name = crawler.lower()
    names = {item for group in groups for item in group[0] if item != "*"}
    if agent == "exact":
        fitting = [item for item in names if item == name]
    else:
        fitting = [item for item in names if name.startswith(item)]
    own = max(fitting, key=len, default="*")
    best: tuple[int, bool] | None = None
    for _, rules in [group for group in groups if own in group[0]]:
        for allowed, pattern in rules:
            parts = map(re.escape, pattern.removesuffix("$").split("*"))
            expression = ".*".join(parts) + ("$" if pattern.endswith("$") else "")
            if not pattern or not re.match(expression, path):
                continue
            if winner == "longest":
                best = max(best or (0, False), (len(pattern), allowed))
            elif best is None:
                best = (1, allowed)
    return best is None or best[1]
