"""The table of what is removed: public token formats, assigned secrets, personal numbers.

The formats follow the public rule lists (gitleaks, detect-secrets) and the providers' own pages.
Most specific first: where two findings overlap, the earlier rule names the placeholder.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from collector.scrub import checks as checks

Accept = Callable[[re.Match[str]], bool]


def _always(match: re.Match[str]) -> bool:
    return True


@dataclass(frozen=True)
class Rule:
    """One kind of secret or personal data, in the shape of gitleaks' rules.

    Attributes:
        kind: its name in counts, and in capitals in the placeholder.
        pattern: what to find; the group `value`, if it took part, is what is replaced.
        keywords: literals of which one must occur; in lower case unless the rule is a token's.
        beside: a further literal that must occur somewhere, looked for once for all its rules.
        around: characters before and after the keyword within which a match lies; None: a match
            begins with the keyword. No built-in pattern repeats anything without an upper limit.
        entropy: least Shannon entropy of the value, in bits per character; 0: any.
        allow: expressions; a value in which one is found is left alone.
        stopwords: lower-case words; a value that holds one is left alone.
        accept: says whether a match is really one.
    """

    kind: str
    pattern: str
    keywords: tuple[str, ...] = ()
    beside: str = ""
    around: tuple[int, int] | None = None
    entropy: float = 0.0
    allow: tuple[str, ...] = ()
    stopwords: tuple[str, ...] = ()
    accept: Accept = _always


def _value(match: re.Match[str]) -> str:
    named = match.re.groupindex.get("value")
    return (match[named] if named else None) or match[0]


def _mixed(match: re.Match[str]) -> bool:
    return any(character.isdigit() for character in match[0])


def _jwt(match: re.Match[str]) -> bool:
    return checks.is_jwt(match[0])


_VOWEL = re.compile("[aeiouAEIOU]")


def _artifactory(match: re.Match[str]) -> bool:
    """Keep `APCalculator` and the like: letters only, and with vowels, is a word."""
    tail = match[0][3:]
    return any(c.isdigit() for c in tail) or not _VOWEL.search(tail)


def _start(unless_after: str) -> str:
    """Return what holds after none of these characters, or after an escape sequence."""
    return rf"(?:(?<![{unless_after}])|(?<=\\[nrtfvb]))"


TOKEN_START = (
    r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtfvb])|(?<=%[0-9A-Fa-f]{2})|(?<=\\x[0-9a-fA-F]{2})"
    r"|(?<=\\u[0-9a-fA-F]{4}))"
)
"""A token starts after anything but a letter or digit, or after an escape sequence."""
_END = r"(?![A-Za-z0-9])"
_END_WORD = r"(?![\w-])"


def _token(kind: str, starts: str, tail: str, accept: Accept = _always, entropy: float = 0) -> Rule:
    """Return the rule of a token that starts with one of the words of `starts`."""
    keywords = tuple(starts.split())
    either = "|".join(re.escape(word) for word in keywords)
    return Rule(kind, f"{TOKEN_START}(?:{either}){tail}", keywords, entropy=entropy, accept=accept)


TOKEN_RULES: tuple[Rule, ...] = (
    _token("jwt", "eyJ", r"[\w-]{8,4096}\.[\w-]{8,8192}(?:\.[\w-]{0,2048})?", _jwt),
    _token("aws_access_key", "AKIA ASIA ABIA ACCA A3T", r"[A-Z0-9]{16,17}" + _END),
    _token("aws_bedrock_key", "ABSK", r"[A-Za-z0-9+/]{100,300}={0,2}"),
    _token("anthropic_key", "sk-ant-", r"[\w-]{20,255}"),
    _token("flywheel_key", "fw_", r"[\w-]{43}" + _END_WORD),
    _token("openai_key", "sk-", r"[\w-]{20,255}", _mixed, 3),
    _token("github_token", "ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{36,255}"),
    _token("github_token", "github_pat_", r"[A-Za-z0-9_]{22,255}"),
    _token("gitlab_token", "glpat- gldt- glft- glsoat- glrt- glcbt-", r"[\w-]{20,64}" + _END),
    _token("gitlab_token", "glffct- glrtr- glwt-", r"[\w-]{20,64}" + _END),
    _token("gitlab_token", "glimt-", r"[\w-]{25}" + _END_WORD),
    _token("gitlab_token", "glptt-", r"[\w-]{40}" + _END_WORD),
    _token("gitlab_token", "gloas-", r"[\w-]{64}" + _END_WORD),
    _token("gitlab_token", "glagent-", r"[\w-]{50,255}"),
    _token("gitlab_token", "GR1348941", r"[\w-]{20,64}"),
    _token(
        "slack_token", "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-", r"[A-Za-z0-9.-]{10,255}"
    ),
    _token("slack_token", "XOXA- XOXB- XOXE- XOXO- XOXP- XOXR- XOXS-", r"[A-Za-z0-9.-]{10,255}"),
    _token("google_key", "AIza", r"[\w-]{35}" + _END_WORD),
    _token("google_key", "GOCSPX-", r"[\w-]{20,40}"),
    _token("stripe_key", "sk_live_ sk_test_ rk_live_ rk_test_ whsec_", r"[A-Za-z0-9]{16,255}"),
    _token("npm_token", "npm_", r"[A-Za-z0-9]{36}" + _END),
    _token("pypi_token", "pypi-AgEIcHlwaS5vcmc pypi-AgENdGVzdC5weXBpLm9yZw", r"[\w-]{70,2048}"),
    _token("huggingface_token", "hf_ api_org_", r"[A-Za-z0-9]{30,64}" + _END),
    _token("square_token", "sq0atp- sq0csp- sq0idp-", r"[\w-]{22,43}"),
    _token("square_token", "EAAA", r"[\w-]{60}" + _END_WORD),
    _token("facebook_token", "EAAM EAAC", r"[A-Za-z0-9]{80,400}"),
    _token("twilio_key", "AC SK", r"[0-9a-z]{32}(?!\w)"),
    _token("mailgun_key", "key-", r"[0-9a-f]{32}" + _END),
    _token("brevo_key", "xkeysib- xsmtpsib-", r"[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    _token("shopify_token", "shpat_ shpca_ shppa_ shpss_", r"[a-fA-F0-9]{32}" + _END),
    _token("digitalocean_token", "dop_v1_ doo_v1_ dor_v1_", r"[a-f0-9]{64}" + _END),
    _token("databricks_token", "dapi dkea dose", r"[a-f0-9]{32}(?:-\d)?" + _END),
    _token("heroku_key", "HRKU-", r"[\w-]{36,90}"),
    _token("linear_key", "lin_api_ lin_oauth_", r"[A-Za-z0-9]{40,64}" + _END),
    _token("notion_token", "ntn_ secret_", r"[A-Za-z0-9]{40,50}" + _END, _mixed, 3.5),
    _token("postman_key", "PMAK-", r"[a-f0-9]{24}-[a-f0-9]{34}" + _END),
    _token("grafana_token", "glsa_", r"[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}"),
    _token("grafana_token", "glc_", r"[A-Za-z0-9+/]{32,400}={0,2}"),
    _token("newrelic_key", "NRAK- NRJS- NRII- NRAA-", r"[A-Za-z0-9-]{19,42}" + _END),
    _token("rubygems_key", "rubygems_", r"[a-f0-9]{48}" + _END),
    _token("docker_token", "dckr_pat_ dckr_oat_", r"[\w-]{27,32}" + _END_WORD),
    _token("pulumi_token", "pul-", r"[a-f0-9]{40}" + _END),
    _token("tailscale_key", "tskey-", r"[a-z]{2,12}-[A-Za-z0-9-]{10,80}"),
    _token("atlassian_token", "ATATT3 ATCTT3 ATBB", r"[\w=-]{28,255}", _mixed),
    _token(
        "bitwarden_key",
        "A3-",
        r"[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}",
    ),
    _token("onepassword_token", "ops_eyJ", r"[A-Za-z0-9+/]{100,2000}={0,3}"),
    _token("age_key", "AGE-SECRET-KEY-1", r"[A-Z0-9]{58}"),
    _token("alibaba_key", "LTAI", r"[A-Za-z0-9]{12,26}" + _END, _mixed, 3),
    _token("tencent_key", "AKID", r"[A-Za-z0-9]{32}" + _END, _mixed, 3),
    _token("easypost_key", "EZAK EZTK", r"[A-Za-z0-9]{54}" + _END),
    _token("flutterwave_key", "FLWSECK_TEST- FLWSECK-", r"[a-hA-H0-9-]{12,44}"),
    _token("sentry_token", "sntrys_ sntryu_", r"[\w+/=-]{40,400}"),
    _token("netlify_token", "nfp_", r"[A-Za-z0-9]{36,48}" + _END),
    _token("replicate_token", "r8_", r"[A-Za-z0-9]{37,40}" + _END),
    _token("groq_key", "gsk_", r"[A-Za-z0-9]{48,60}" + _END),
    _token("perplexity_key", "pplx-", r"[A-Za-z0-9]{32,64}" + _END),
    _token("xai_key", "xai-", r"[A-Za-z0-9]{60,100}" + _END),
    _token("tavily_key", "tvly-", r"[A-Za-z0-9-]{24,64}" + _END, _mixed),
    _token("langsmith_key", "lsv2_pt_ lsv2_sk_", r"[a-f0-9]{32}_[a-f0-9]{10}"),
    _token("pinecone_key", "pcsk_", r"[A-Za-z0-9_]{40,90}"),
    _token("jina_key", "jina_", r"[a-f0-9]{32}[\w-]{28}"),
    _token("supabase_key", "sbp_ sb_secret_", r"[\w-]{30,60}", _mixed),
    _token("posthog_key", "phx_", r"[A-Za-z0-9_]{40,60}"),
    _token("planetscale_token", "pscale_tkn_ pscale_pw_ pscale_oauth_", r"[\w=.-]{32,64}"),
    _token("prefect_key", "pnu_ pnb_", r"[a-zA-Z0-9]{36}" + _END),
    _token("readme_key", "rdme_", r"[a-z0-9]{70}" + _END),
    _token("shippo_key", "shippo_live_ shippo_test_", r"[a-fA-F0-9]{40}" + _END),
    _token("typeform_token", "tfp_", r"[\w.=-]{50,64}"),
    _token("duffel_token", "duffel_live_ duffel_test_", r"[\w=-]{43}"),
    _token("clojars_token", "CLOJARS_", r"[a-z0-9]{60}" + _END),
    _token("octopus_key", "API-", r"[A-Z0-9]{26}" + _END, _mixed, 3),
    _token("flyio_token", "fo1_ fm1r_ fm1a_ fm2_", r"[\w+/=-]{40,600}"),
    _token("sourcegraph_token", "sgp_ slk_", r"(?:[a-fA-F0-9]{16}_|local_)?[a-fA-F0-9]{40,64}"),
    _token("nuget_key", "oy2", r"[a-z0-9]{43}" + _END),
    _token("figma_token", "figd_ figo_", r"[\w-]{38,50}"),
    _token("adobe_secret", "p8e-", r"[A-Za-z0-9]{32}" + _END),
    _token("yandex_key", "AQVN YCA", r"[\w-]{35,60}", _mixed),
    _token("frameio_token", "fio-u-", r"[\w=-]{64}"),
    _token("clickhouse_key", "4b1d", r"[A-Za-z0-9]{38}" + _END, _mixed, 3),
    _token("buildkite_token", "bkua_", r"[a-z0-9]{40}" + _END),
    _token("circleci_token", "CCIPAT_", r"[A-Za-z0-9]{22}_[A-Fa-f0-9]{40}"),
    _token("artifactory_token", "AKC", r"[A-Za-z0-9]{10,128}(?![\w/+-])"),
    _token(
        "artifactory_token",
        " ".join(f"AP{digit}" for digit in "0123456789ABCDEF"),
        r"[A-Za-z0-9]{8,128}(?![\w/+.(-])",
        _artifactory,
    ),
    _token("artifactory_token", "cmVmd", r"[A-Za-z0-9]{59}" + _END),
)
"""Tokens of one unbroken run of letters, digits, `_` and `-` of which at least twelve stand
together; tried only where the text has such a run."""

DOTTED_RULES: tuple[Rule, ...] = (
    Rule("discord_token", TOKEN_START + r"[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,38}" + _END_WORD),
    Rule("airtable_token", TOKEN_START + r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}" + _END),
)
"""Tokens of dotted parts that start with no fixed word; tried where a long run meets a dot."""


def _bearer(match: re.Match[str]) -> bool:
    value = match["value"]
    return not checks.is_placeholder(value) and checks.looks_random(value)


def _basic(match: re.Match[str]) -> bool:
    return checks.is_basic_credentials(match["value"])


def _url_password(match: re.Match[str]) -> bool:
    return not checks.is_slot(match["value"])


def _command_line(match: re.Match[str]) -> bool:
    return not checks.is_placeholder(match["value"])


def _generated(match: re.Match[str]) -> bool:
    return checks.looks_generated(match["value"])


def _spoken(match: re.Match[str]) -> bool:
    """Say whether a word after "the password is" is one: a sentence's words hold no digits."""
    value = match["value"]
    if checks.is_placeholder(value) or _ALGORITHM.match(value):
        return False
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and "(" not in value


_ALGORITHM = re.compile(r"(?i)(?:sha|md|base|utf|argon|pbkdf|aes|rot|v|py|python|oauth)-?\d")


def _random(match: re.Match[str]) -> bool:
    return checks.looks_random(match["value"])


LONG_RULES: tuple[Rule, ...] = (
    Rule("mailchimp_key", TOKEN_START + r"[0-9a-f]{32}-us\d{1,2}(?!\w)", ("-us",), around=(33, 6)),
    Rule("google_key", TOKEN_START + r"ya29\.[\w-]{20,512}", ("ya29.",)),
    Rule("sendgrid_key", TOKEN_START + r"SG\.[\w-]{20,24}\.[\w-]{39,50}" + _END_WORD, ("sg.",)),
    Rule(
        "telegram_token",
        TOKEN_START + r"\d{8,10}:AA[\w-]{33}" + _END_WORD,
        (":aa",),
        around=(11, 37),
    ),
    Rule("vault_token", TOKEN_START + r"(?:hvs|hvb|hvr)\.[\w-]{24,300}", ("hvs.", "hvb.", "hvr.")),
    Rule("doppler_token", TOKEN_START + r"dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{40,80}", ("dp.",)),
    Rule(
        "azure_secret",
        r"(?<![\w~.-])[\w~.]{3}\dQ~[\w~.-]{31,34}(?![\w~.-])",
        ("q~",),
        around=(5, 38),
    ),
    Rule("azure_key", r"(?i:AccountKey)=(?P<value>[A-Za-z0-9+/=]{80,100})", ("accountkey=",)),
    Rule("azure_key", r"(?<=[?&])sig=(?P<value>[A-Za-z0-9%]{43,60}%3[Dd])", ("sig=",)),
    Rule(
        "npm_token",
        r"//[\w.-]{3,128}(?:/[\w./-]{0,128})?:_authToken=\s?(?P<value>[\w./+=-]{16,128})",
        ("_authtoken",),
        around=(260, 144),
    ),
    Rule(
        "slack_webhook",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<value>[\w/-]{20,128})",
        ("hooks.slack",),
    ),
    Rule(
        "discord_webhook",
        r"discord(?:app)?\.com/api/webhooks/(?P<value>\d{16,20}/[\w-]{60,80})",
        ("discord",),
    ),
    Rule(
        "softlayer_key",
        r"softlayer\.com/soap/v[\d.]{1,5}/(?P<value>[A-Za-z0-9]{32,128})",
        ("softlayer.com",),
    ),
    Rule(
        "bearer_token",
        r"(?i:\bbearer)[\s:]{1,3}(?P<value>[\w.~+/-]{16,2048}={0,2})",
        ("bearer",),
        accept=_bearer,
    ),
    Rule(
        "bearer_token",
        r"(?i:authorization)\\?[\"']?\s{0,2}[:=,]\s{0,2}\\?[\"']?"
        r"(?:(?i:token|apikey|key)[ =]{1,2})?"
        r"(?P<value>[\w.~+/-]{16,2048}={0,2})",
        ("authorization",),
        accept=_generated,
    ),
)
"""Secrets with a word beside them and a long unbroken run in them; tried only where the text has
such a run with a digit."""

WORD_RULES: tuple[Rule, ...] = (
    Rule(
        "private_key",
        r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
        r"(?P<value>(?:[A-Za-z0-9+/=\s\\\"',.:()-](?!----END)){16,20000})",
        ("-----begin",),
        "key",
    ),
    Rule(
        "aws_secret_key",
        r"(?i:aws)[\w .-]{0,30}?(?i:key)[\w .-]{0,20}?[\"'=:,\s>\]]{1,6}"
        r"(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        ("aws",),
        "key",
    ),
    Rule(
        "basic_credentials",
        r"(?i:\bbasic)\s{1,3}(?P<value>[A-Za-z0-9+/]{8,512}={0,2})",
        ("basic",),
        accept=_basic,
    ),
    Rule(
        "url_password",
        r"(?<=[A-Za-z0-9+.-])://[^\s:/@\"'<>]{0,64}:(?P<value>[^\s:/@\"'<>]{1,128})@(?=[\w\[])",
        ("://",),
        "@",
        accept=_url_password,
    ),
    Rule(
        "password",
        r"curl [^\n]{0,200}?(?:-u|--user)[ =][\"']?[^\s:\"'$]{1,64}:(?P<value>[^\s\"'$]{3,128})",
        ("curl ",),
        accept=_command_line,
    ),
    Rule(
        "password",
        r"sshpass\s{1,2}-p\s{0,2}[\"']?(?P<value>[^\s\"'$]{3,128})",
        ("sshpass",),
        "pass",
        accept=_command_line,
    ),
    Rule(
        "password",
        r"login [^\s]{1,64}\s{1,4}password\s{1,4}(?P<value>[^\s\"']{8,128})",
        ("login ",),
        "pass",
        accept=_random,
    ),
    Rule(
        "password",
        r"(?i:passw(?:or)?d) (?i:(?:for|of|to) [^\n:=]{1,40}?(?: is|:| ?=)|is|was)"
        r"\s{1,3}[\"'`]?(?P<value>[^\s\"'`]{5,128}?)(?=[\"'`]|[.,;:!?)]?(?:\s|$))",
        ("password ", "passwd "),
        "pass",
        accept=_spoken,
    ),
)
"""Secrets known by the word beside them alone."""

ASSIGNMENT = Rule(
    "secret",
    "name, operator, value: see assignments",
    ("pass", "pw", "secret", "token", "key", "cred", "contrase"),
)
"""A value assigned to a telling name; `password` if the name is a password's."""


def _email(match: re.Match[str]) -> bool:
    return checks.is_mail_address(match[0])


EMAIL = Rule(
    "email",
    _start(r"\w") + r"[A-Za-z0-9_][\w.%+-]{0,63}@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,5}[A-Za-z][A-Za-z0-9-]{1,23}(?![\w(\[])",
    ("@",),
    accept=_email,
)


def _iban(match: re.Match[str]) -> bool:
    return checks.iban_holds(match[0])


_CARD_WORD = re.compile(r"(?i)card|credit|debit|maestro|\bvisa\b|payment|\bcharge|\bpan\b|\bcc\b")


def _card(match: re.Match[str]) -> bool:
    if not checks.is_card(match[0]):
        return False
    around = match.string[max(0, match.start() - 64) : match.end() + 48]
    return checks.is_common_card(match[0]) or bool(_CARD_WORD.search(around))


_SSN_WORD = re.compile(r"(?i)\bssn\b|social security|\btax(?:payer)? id")


def _named_ssn(match: re.Match[str]) -> bool:
    return bool(_SSN_WORD.search(match.string, max(0, match.start() - 48), match.start()))


def _phone(match: re.Match[str]) -> bool:
    return checks.is_phone(match[0])


def _named_phone(match: re.Match[str]) -> bool:
    return checks.is_named_phone(match.string, match.start(), match.end())


_EXTENSION = r"(?: ?(?:x|ext\.?) ?\d{1,6})?"
_NOT_IN_NUMBER = _start(r"\w.-")
_NUMBER_ENDS = r"(?![\w-]|\.\d)"

IBAN = Rule(
    "iban",
    _start("A-Za-z0-9")
    + r"[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])",
    accept=_iban,
)

NUMBER_RULES: tuple[Rule, ...] = (
    Rule(
        "card",
        _NOT_IN_NUMBER + r"(?:\d{12,19}|\d{4}(?:[ -]\d{4}){2,3}(?:[ -]\d{1,4})?"
        r"|\d{4}[ -]\d{6}[ -]\d{4,5})" + _NUMBER_ENDS,
        accept=_card,
    ),
    Rule(
        "ssn",
        _NOT_IN_NUMBER + r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}" + _NUMBER_ENDS,
    ),
    Rule(
        "ssn",
        _NOT_IN_NUMBER + r"(?!000|666|9)\d{3} ?(?!00)\d{2} ?(?!0000)\d{4}" + _NUMBER_ENDS,
        accept=_named_ssn,
    ),
)
"""Personal numbers; tried where at least seven digits follow each other, separators aside."""

PHONE_RULES: tuple[Rule, ...] = (
    Rule(
        "phone",
        _start(r"\w.+/-") + r"(?<!\d )(?:"
        r"(?<!=)(?<!= )\+[1-9]\d{0,8}(?:(?:[ ./-]| ?\(\d{1,4}\)[ -]?)\d{1,7}){0,6}"
        r"(?:[ ./-]| ?\(\d{1,4}\)[ -]?)\d{2,7}"
        r"|(?<!=)(?<!= )\+[1-9]\d{7,14}"
        r"|00[1-9]\d{0,2}(?:[ .-](?:\(\d{1,4}\)|\d{2,5})){2,6}"
        r"|(?:1[ .-])?\(\d{2,4}\)[ .-]?\d{2,4}[ .-]?\d{3,4}(?:[ .-]?\d{1,4})?"
        r"|(?:1[ .-]|001-)?[2-9]\d{2}(?:-\d{3}-|\.\d{3}\.| \d{3} |-\d{3} )\d{4}"
        r"|0\d{1,4}(?:[ .-]\d{2,4}){2,4}"
        r")" + _EXTENSION + r"(?!\w|[ .-]\d)",
        accept=_phone,
    ),
    Rule(
        "phone",
        _start(r"\w.+/")
        + r"[+(]{0,2}\d(?:[ ().\-/]{0,3}\d){6,21}"
        + _EXTENSION
        + r"(?![\w]|[.-]\d)",
        accept=_named_phone,
    ),
)
"""Telephone numbers: strictly formatted, or called so by the words around; tried as the above."""

_VERSION_BEFORE = re.compile(r"(?i)(?:\bv|version|release|[=<>~!]=)[\s:\"'=]{0,4}$")
_ADDRESS_WORD = re.compile(r"(?i)\bip\b|\bip_|_ip\b|client|remote|visitor|peer|ssh|ping")


def _ipv4(match: re.Match[str]) -> bool:
    before = match.string[max(0, match.start() - 24) : match.start()]
    if _VERSION_BEFORE.search(before) or not checks.is_public_address(match[0]):
        return False
    return len(match[0]) > 7 or bool(_ADDRESS_WORD.search(before))


def _ipv6(match: re.Match[str]) -> bool:
    return checks.is_public_address(match[0])


IPV4 = Rule("ip_address", _NOT_IN_NUMBER + r"\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)", accept=_ipv4)
IPV6 = Rule(
    "ip_address",
    _start(r"\w:.") + r"(?:(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}"
    r"|[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{1,4}:){0,5}(?::[0-9A-Fa-f]{1,4}){0,6})(?![\w:])",
    accept=_ipv6,
)

SECRETS: tuple[Rule, ...] = TOKEN_RULES + DOTTED_RULES + LONG_RULES + WORD_RULES + (ASSIGNMENT,)
PERSONAL: tuple[Rule, ...] = (EMAIL, IBAN, *NUMBER_RULES, *PHONE_RULES, IPV4, IPV6)
RULES: tuple[Rule, ...] = SECRETS + PERSONAL
"""All built-in rules, in order of precedence."""
