"""Which options of Spark's readers and of database drivers the configuration may set: the listed ones, and no other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from recsys_spark.config.allowed import PART, VARIABLE, words
from recsys_spark.redaction import holds_secret, is_secret

LISTING = words("pathglobfilter recursivefilelookup modifiedbefore modifiedafter basepath ignoremissingfiles")
OPTIONS: Mapping[str, frozenset[str]] = {
    "csv": LISTING
    | words(
        "sep delimiter header quote escape comment encoding charset multiline linesep nullvalue nanvalue "
        "emptyvalue positiveinf negativeinf ignoreleadingwhitespace ignoretrailingwhitespace maxcolumns "
        "maxcharspercolumn chartoescapequoteescaping unescapedquotehandling locale dateformat timestampformat "
        "timestampntzformat quoteall escapequotes mode inferschema enforceschema columnnameofcorruptrecord"
    ),
    "json": LISTING
    | words(
        "multiline linesep encoding charset locale allowcomments allowunquotedfieldnames allowsinglequotes "
        "allownumericleadingzeros allowbackslashescapinganycharacter allowunquotedcontrolchars "
        "allownonnumericnumbers primitivesasstring prefersdecimal dropfieldifallnull dateformat "
        "timestampformat timestampntzformat mode samplingratio columnnameofcorruptrecord"
    ),
    "parquet": LISTING | words("mergeschema datetimerebasemode int96rebasemode"),
    "table": words("versionasof timestampasof snapshot-id as-of-timestamp branch tag split-size"),
    "jdbc": words(
        "url user driver fetchsize partitioncolumn lowerbound upperbound numpartitions querytimeout "
        "customschema pushdownpredicate pushdownaggregate pushdownlimit pushdownoffset prefertimestampntz "
        "keytab principal refreshkrb5config ssl sslmode sslrootcert sslcert sslkey encrypt "
        "trustservercertificate hostnameincertificate usessl requiressl verifyservercertificate "
        "servertimezone characterencoding connecttimeout sockettimeout logintimeout applicationname "
        "currentschema"
    ),
}
"""Options of Spark's readers that a source may set, in small letters, by its format."""
STREAMED = words(
    "subscribe subscribepattern assign startingoffsets startingtimestamp startingoffsetsbytimestamp "
    "startingoffsetsbytimestampstrategy failondataloss minpartitions groupidprefix includeheaders "
    "kafkaconsumer.polltimeoutms fetchoffset.numretries fetchoffset.retryintervalms mintriggerdelay "
    "maxtriggerdelay minoffsetspertrigger maxfileage filenameonly maxcachedfiles linesep wholetext"
)
"""The same of the stream's; beside them `kafka.*`, less what loads classes."""
LOADS_CLASSES = re.compile(r"\.class(?:es)?$|handler|interceptor|\.providers?$|factory", re.IGNORECASE)
CALLBACKS = words(
    "org.apache.kafka.common.security.authenticator.SaslClientCallbackHandler "
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler "
    "org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler "
    "org.apache.kafka.common.security.oauthbearer.internals.OAuthBearerSaslClientCallbackHandler "
    "software.amazon.msk.auth.iam.IAMClientCallbackHandler "
    "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler "
    "com.google.cloud.hosted.kafka.auth.GcpLoginCallbackHandler "
    "io.strimzi.kafka.oauth.client.JaasClientOauthLoginCallbackHandler"
)
"""Classes by which Kafka's client logs in with tokens and to the brokers of clouds; no others are loaded."""
CALLBACK_OPTIONS = words("kafka.sasl.client.callback.handler.class kafka.sasl.login.callback.handler.class")
TOKEN_ADDRESS = re.compile(r"kafka\.sasl\.oauthbearer\..*\.url", re.IGNORECASE)
"""Where those get their tokens: over TLS, and not from a file (`file:`), which would be sent to the broker."""
DRIVER = re.compile(r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)+")
JDBC_URL = re.compile(r"jdbc:[a-z][a-z0-9+-]*:[^\x00-\x1f]+", re.IGNORECASE)
RUNS_CODE = re.compile(
    r"(?:^|[?&;:,(])\s*(socketFactory\w*|ssl\w*factory\w*|ssl\w*callback|\w*interceptors?|autoDeserialize|propertiesTransform"
    r"|allowLoadLocalInfile\w*|allowUrlInLocalInfile|init|initSql|autoInit\w*|authenticationPluginClassName"
    r"|authenticationPlugins|defaultAuthenticationPlugin|clientInfoProvider|connectionFactory|objectFactory"
    r"|xmlFactoryFactory|loggerFile|logger(?:ClassName)?|java\.naming\.\w+|jndiName|trace_level_\w+"
    r"|sessionVariables|script|queryExec\w*|kerberosServerName\w*class)\s*=",
    re.IGNORECASE,
)
"""Parameters by which known drivers load classes, run statements or scripts, or write files while they connect."""
JDBC_SHAPES = {
    "driver": DRIVER,
    "partitioncolumn": re.compile(PART),
    "lowerbound": re.compile(r"[\w :.+-]+"),
    "upperbound": re.compile(r"[\w :.+-]+"),
    "numpartitions": re.compile(r"\d{1,4}"),
    "fetchsize": re.compile(r"\d{1,9}"),
    "querytimeout": re.compile(r"\d{1,9}"),
    "customschema": re.compile(r"[\w\s,():<>`]+"),
}
"""What a value may look like."""


def reader_options(format_: str, options: Mapping[str, str]) -> None:
    """Refuse options that are not listed for the format."""
    known = OPTIONS["csv"] | OPTIONS["json"] | OPTIONS["parquet"] if format_ == "package" else OPTIONS[format_]
    _listed([name for name in options if name.lower() not in known], options, known)


def stream_options(options: Mapping[str, str]) -> None:
    """Refuse options of the stream that are not listed, or by which Kafka's client would load classes but CALLBACKS.

    The values are those of `options`, or the names of variables of `options_env`: a class stands in `options` alone.
    """

    def allowed(name: str) -> bool:
        plain = name.lower()
        if plain in LISTING | STREAMED | CALLBACK_OPTIONS:
            return True
        return plain.startswith("kafka.") and not LOADS_CLASSES.search(plain)

    for name, value in options.items():
        if name.lower() in CALLBACK_OPTIONS and value not in CALLBACKS:
            raise ValueError(f"options.{name} may be, written in options, one of {', '.join(sorted(CALLBACKS))}")
        if TOKEN_ADDRESS.fullmatch(name) and not (value.startswith("https://") or VARIABLE.fullmatch(value)):
            raise ValueError(f"options.{name} must begin with https://")

    _listed(
        [name for name in options if not allowed(name)],
        options,
        STREAMED | {"kafka.* that loads no class"} | CALLBACK_OPTIONS,
    )


def _listed(unknown: list[str], options: Mapping[str, str], known: frozenset[str]) -> None:
    for name, value in options.items():
        if not is_secret(name) and holds_secret(value):
            raise ValueError(f"options.{name} holds a password; put it into an environment variable")
    if unknown:
        raise ValueError(f"options.{min(unknown)} may not be set; those that may are {', '.join(sorted(known))}")


def jdbc_url(url: str) -> None:
    """Refuse what is no JDBC URL, and parameters by which a driver runs more than a connection."""
    if not JDBC_URL.fullmatch(url):
        raise ValueError("options.url must be such as jdbc:postgresql://host/database")
    found = RUNS_CODE.search(unquote(url))
    if found is not None:
        raise ValueError(f"options.url sets {found[1]}, by which a driver may run code; leave it out")


def jdbc_options(options: Mapping[str, str]) -> None:
    """Refuse options that would be more in a statement than the name or the number that they should be."""
    for name, value in options.items():
        shape = JDBC_SHAPES.get(name.lower())
        if name.lower() == "url":
            jdbc_url(value)
        elif shape is not None and not shape.fullmatch(value):
            raise ValueError(f"options.{name} {value!r} is not what it may be; write a plain name or number")
