"""What a `reject` predicate may do: compare and compute with the columns of one row, and nothing else.

It is a Spark SQL condition of operators, literals, columns, CASE, CAST, IN, LIKE, BETWEEN and the functions listed
here, which give the same value for the same row each time. It reads no table or file (no query within it), calls no
Java (`reflect`), no function of a user or a catalogue, nothing of time, chance, session or machine. It is judged by its
words here, before Spark starts, and again by the tree that Spark's parser makes of it (`events/predicates.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from recsys_spark.config.allowed import words

FUNCTIONS = words(
    # texts
    "ascii bit_length btrim char char_length character_length chr concat concat_ws contains elt endswith "
    "find_in_set format_number format_string initcap instr lcase left len length levenshtein locate lower lpad ltrim "
    "octet_length overlay position regexp regexp_count regexp_extract regexp_extract_all regexp_instr regexp_like "
    "regexp_replace regexp_substr repeat replace reverse right rlike rpad rtrim soundex space split split_part "
    "startswith substr substring substring_index translate trim ucase upper like ilike base64 unbase64 hex unhex md5 "
    "sha sha1 sha2 crc32 hash xxhash64 to_char to_varchar parse_url url_decode "
    # numbers
    "abs acos acosh asin asinh atan atan2 atanh bin bround cbrt ceil ceiling conv cos cosh cot degrees div e exp expm1 "
    "factorial floor greatest hypot isnan least ln log log10 log1p log2 mod nanvl negative pi pmod positive pow power "
    "radians rint round sign signum sin sinh sqrt tan tanh try_add try_divide try_mod try_multiply try_subtract "
    "width_bucket bit_count bit_get getbit shiftleft shiftright shiftrightunsigned "
    # days and times of the row
    "add_months date date_add date_diff date_format date_from_unix_date date_part date_sub date_trunc dateadd datediff "
    "datepart day dayname dayofmonth dayofweek dayofyear extract from_unixtime from_utc_timestamp hour last_day "
    "make_date make_timestamp minute month monthname months_between next_day quarter second timestamp timestamp_micros "
    "timestamp_millis timestamp_seconds to_date to_timestamp to_unix_timestamp to_utc_timestamp trunc try_to_timestamp "
    "make_interval unix_date unix_micros unix_millis unix_seconds weekday weekofyear year "
    # what is missing, types, lists and JSON
    "coalesce if iff ifnull isnotnull isnull nullif nullifzero nvl nvl2 zeroifnull bigint binary boolean cast decimal "
    "double float int smallint string tinyint try_cast try_to_number to_number typeof array "
    "array_contains array_distinct array_join array_max array_min array_position array_remove array_size "
    "array_except array_intersect array_union arrays_overlap flatten "
    "cardinality element_at exists filter forall get get_json_object json_array_length map_contains_key map_keys "
    "map_values named_struct size slice sort_array struct transform try_element_at aggregate reduce between when "
    "case"
)
"""Functions that may be called, in small letters."""
BEFORE_BRACKETS = words(
    "and or not in like ilike rlike regexp between is when then else case all any some as distinct div "
    "escape interval from for both leading trailing null true false end on by "
    "varchar numeric dec timestampadd timestampdiff"
)
"""Words that may stand before a bracket and are no functions."""
NEVER = words(
    "select table values with using over within lateral union intersect except minus current_date "
    "current_timestamp current_time current_user session_user localtimestamp current_catalog "
    "current_database current_schema"
)
"""Words that begin a query or a window, or ask for the time or the session; in backquotes they name columns."""
TOKENS = re.compile(
    r"(?P<blank>\s+|--(?:\\\n|[^\r\n])*)"
    r"|(?P<text>[rR](?:'[^']*'|\"[^\"]*\")|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<quoted>`(?:[^`]|``)*`)"
    r"|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?[A-Za-z]{0,2})"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<sign><=>|<>|!=|<=|>=|==|->|::|\|\||<<<|>>>|<<|>>|[=<>+*/%&|^~!(),.\[\]-])",
    re.DOTALL,
)
NAME = re.compile(r"[^\W\d][\w .-]{0,63}")
LONGEST = 4000


def check_predicates(predicates: Mapping[str, str]) -> None:
    """Raise ValueError for a predicate that may not be used, or whose name may not."""
    for name, predicate in predicates.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a reason; take letters, digits and _")
        fault = fault_of(predicate)
        if fault is not None:
            raise ValueError(f"{name} ({predicate[:200]}): {fault}; SECURITY.md says what a predicate may do")


def fault_of(predicate: str) -> str | None:
    """Why a predicate may not be used, or None. What is no SQL at all is left to Spark to explain."""
    if len(predicate) > LONGEST:
        return f"is longer than {LONGEST} characters"
    before: tuple[str, str] = ("", "")
    earlier = ""
    for kind, token in _tokens(predicate):
        plain = token.lower()
        if kind == "none":
            return f"holds {token!r}, which no predicate needs"
        if kind == "word" and plain in NEVER and before[1] != ".":
            return f"{token} is for queries, times or sessions; a column of that name stands in backquotes"
        if token == "(" and before[0] in ("word", "quoted", "text"):
            fault = _call(before, earlier)
            if fault is not None:
                return fault
        if plain == "from" and before[1] == "(":
            return "holds a query"
        earlier, before = before[1], (kind, token)
    return None


def _call(called: tuple[str, str], before: str) -> str | None:
    kind, name = called
    if kind == "word" and before != "." and name.lower() in FUNCTIONS | BEFORE_BRACKETS:
        return None
    return f"calls {name}, which is not among the functions that a predicate may call"


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        found = TOKENS.match(text, place)
        if found is None or text.startswith("/*", place):
            yield "none", text[place : place + 2]
            return
        place = found.end()
        if found.lastgroup != "blank":
            yield str(found.lastgroup), found[0]
