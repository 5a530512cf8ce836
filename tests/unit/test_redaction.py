"""What leaves the program holds no secret, however it got into the text."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from urllib.parse import quote

import pytest

from recsys_spark import redaction
from recsys_spark.credentials import secret_of
from recsys_spark.errors import UserError
from recsys_spark.pipeline import command
from recsys_spark.redaction import (
    CoveringFormatter,
    covered,
    covered_values,
    holds_secret,
    is_secret,
    remember,
    remember_environment,
)
from recsys_spark.scheduling.job_runs import LONGEST, one_line

SECRET = 'pa"ss w@rd/100%-öl'


@pytest.fixture(autouse=True)
def _forgotten_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", set())
    monkeypatch.setattr(redaction, "_taken", set())


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SHOP_PASSWORD", SECRET)
    return secret_of("SHOP_PASSWORD", "source.password_env")


@pytest.mark.parametrize("write", [str, lambda text: quote(text, safe=""), json.dumps, repr])
def test_a_secret_that_was_read_is_covered_however_it_is_written(known: str, write: object) -> None:
    text = f"before {write(known)} after"  # type: ignore[operator]
    assert "pa" not in covered(text).replace("before", "").replace("after", "")


def test_a_variable_that_is_not_set_is_named_with_its_key() -> None:
    with pytest.raises(UserError, match=r"stream\.options_env: the environment variable NO_SUCH is not set; export it"):
        secret_of("NO_SUCH", "stream.options_env")


def test_blanks_are_no_part_of_a_secret_and_nothing_else_is_no_secret() -> None:
    assert secret_of("KEY", "spark.conf_env", {"KEY": f" {SECRET}\n"}) == SECRET
    assert "pa" not in covered(f"<{SECRET}>")
    with pytest.raises(UserError, match=r"spark\.conf_env: the environment variable KEY is not set"):
        secret_of("KEY", "spark.conf_env", {"KEY": " \n"})


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("cannot reach http://ann:hunter2@mlflow:5000/api", "cannot reach http://***@mlflow:5000/api"),
        ("redis://:hun@ter2@host:6379/0", "redis://***@host:6379/0"),
        (
            "jdbc:postgresql://h/d?user=u&password=hunter2&ssl=true",
            "jdbc:postgresql://h/d?user=u&password=***&ssl=true",
        ),
        ("-Djavax.net.ssl.trustStorePassword=hunter2 -Xmx1g", "-Djavax.net.ssl.trustStorePassword=*** -Xmx1g"),
        ('{"client_secret": "hunter2", "n": 1}', '{"client_secret": "***", "n": 1}'),
        ("fs.azure.account.key.shop=hunter2", "fs.azure.account.key.shop=***"),
        ('login "u" password="hunter2";', 'login "u" password="***";'),
        ("password='s3 cret' next", "password='***' next"),
        ("password = hunter2 next", "password = *** next"),
        ("Password: hunter2 next", "Password: *** next"),
        (r"{\"password\": \"hun ter2\", \"n\": 1}", r"{\"password\": \"***\", \"n\": 1}"),
        ("credentials={user=u, password=hunter2, n=1}", "credentials={user=u, password=*** n=1}"),
        ("password=hunter2,cd;e)f} next", "password=*** next"),
        ("password={cipher}hunter2 next", "password=*** next"),
        ("jdbc:sqlserver://h;password=hunter2;encrypt=true", "jdbc:sqlserver://h;password=***;encrypt=true"),
        ("options=-Dx.password=hunter2 -Xmx1g", "options=-Dx.password=*** -Xmx1g"),
        ("kafka.ssl.keystore.key=hunter2", "kafka.ssl.keystore.key=***"),
        ("-----BEGIN PRIVATE KEY----- hunter2 -----END PRIVATE KEY----- next", "*** next"),
        # What is no secret stays, so that a message can be understood.
        ("http://host:8000/lists/ann@example.org", "http://host:8000/lists/ann@example.org"),
        ("features.tokenizer: no such folder", "features.tokenizer: no such folder"),
        ("http://token-service:8000/x, token-service:80", "http://token-service:8000/x, token-service:80"),
        ("/srv/credentials.csv: no such file", "/srv/credentials.csv: no such file"),
        ("source.password: unknown key; see docs", "source.password: unknown key; see docs"),
        ("at x.get(CredentialProvider.java:120)", "at x.get(CredentialProvider.java:120)"),
        ("name that password_env=SHOP_PASSWORD", "name that password_env=SHOP_PASSWORD"),
        ("s3a.aws.credentials.provider=org.apache.Provider", "s3a.aws.credentials.provider=org.apache.Provider"),
    ],
)
def test_what_looks_like_a_secret_by_its_place_is_covered(text: str, seen: str) -> None:
    assert covered(text) == seen
    assert str(UserError(text)) == seen


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("PGPASSWORD", True), ("AWS_SECRET_ACCESS_KEY", True), ("SLACK_TOKEN", True), ("spark.ssl.keyPassword", True),
        ("spark.hadoop.fs.azure.account.key.shop.blob", True), ("kafka.sasl.jaas.config", True), ("sslpwd", False),
        ("spark.hadoop.fs.s3a.aws.credentials.provider", False), ("PWD", False), ("features.tokenizer", False),
        ("password_env", False), ("AWS_WEB_IDENTITY_TOKEN_FILE", False), ("tokens", False), ("sasrec", False),
        ("kafka.ssl.keystore.key", True), ("ssl.keystore.location", False), ("kafka.ssl.keystore.key.password", True),
        ("spark.kubernetes.container.image.pullSecrets", False), ("spark.io.encryption.keySizeBits", False),
        ("spark.io.encryption.keygen.algorithm", False), ("spark.authenticate.secretBitLength", False),
        ("spark.security.credentials.renewalRatio", False), ("spark.security.credentials.retryWait", False),
        ("spark.kafka.clusters.shop.sasl.token.mechanism", False), ("spark.authenticate.secret", True),
        ("spark.hadoop.fs.azure.sas.token.provider.type.shop.dfs.core.windows.net", False),
        ("spark.hadoop.fs.azure.sas.fixed.token.shop.dfs.core.windows.net", True),
        ("kafka.sasl.oauthbearer.token.endpoint.url", False),
    ],
)  # fmt: skip
def test_names_of_secrets_are_told_from_names_that_sound_like_them(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("jdbc:oracle:thin:shop/tiger@//db:1521/x", True),
        ("jdbc:postgresql://h/d?%70assword=x", True),
        ("jdbc:redshift://h/d;SecretAccessKey=x", True),
        ("jdbc:databricks://h;Auth_AccessToken=x", True),
        ("abfss://container@account.dfs.core.windows.net/events", False),
        ("jdbc:postgresql://db:5432/shop?sslmode=require", False),
        ("jdbc:sqlserver://token-db:1433", False),
        ("arn:aws:secretsmanager:eu-west-1:1:secret:shop", False),
        ("hdfs://namenode:8020/logs/user@corp", False),
        ("-----BEGIN PRIVATE KEY-----", True),
    ],
)
def test_passwords_in_addresses_are_found(text: str, holds: bool) -> None:
    assert holds_secret(text) is holds


def test_mappings_are_covered_by_the_names_of_their_keys() -> None:
    told = {"conf": {"x.secret": "abc", "x.size": "3"}, "tokens": 5, "options_env": {"sasl.jaas.config": "KAFKA_JAAS"}}
    assert covered_values(told) == {**told, "conf": {"x.secret": "***", "x.size": "3"}}


def test_secrets_of_the_environment_are_covered_and_its_paths_are_not(tmp_path: Path) -> None:
    remember_environment(
        {
            "AWS_SECRET_ACCESS_KEY": "sesame-sesame",
            "GOOGLE_CREDENTIALS": str(tmp_path),
            "PWD": "/srv/shop",
            "TOKEN": "on",
        }
    )
    text = f"sesame-sesame in {tmp_path} of /srv/shop is on"
    assert covered(text) == f"*** in {tmp_path} of /srv/shop is on"


def test_a_short_value_that_a_variable_holds_is_covered_where_it_stands_alone() -> None:
    remember_environment(
        {
            "POSTGRES_PASSWORD": "postgres",
            "SECRET_STORE_PORT": "tcp://10.0.0.7:8200",
            "SECRET_STORE_PORT_8200_TCP_ADDR": "10.0.0.7",
            "TOKEN_SERVICE_HOST": "tokens.internal.example",
        }
    )
    outputs = "/srv/postgres/x, a-postgres, postgres_1, postgres.csv, postgresql, tcp://10.0.0.7:8200"
    assert covered(outputs) == outputs
    assert covered("at tokens.internal.example") == "at tokens.internal.example"
    assert covered("no user with 'postgres', or postgres.") == "no user with '***', or ***."
    remember("postgres")  # now it was read as a secret
    assert covered("/srv/postgres") == "/srv/***"


@pytest.mark.parametrize(
    ("secret", "inner"),
    [
        ("postgresql://ann:hun%2Fter2-hunter2@db/mlflow", ("hun%2Fter2-hunter2", "hun/ter2-hunter2")),
        ("https://mlflow/?token=hun%2Fter2-hunter2&x=1", ("hun%2Fter2-hunter2", "hun/ter2-hunter2")),
        ('x.PlainLoginModule required username="shop" password="hunter2-hunter2";', ("hunter2-hunter2",)),
        ("redis://:short7@db/0", ("short7",)),
    ],
)
def test_what_is_secret_within_a_secret_is_covered_by_itself(secret: str, inner: tuple[str, ...]) -> None:
    for each in inner:
        assert covered(f"said {each} no") == f"said {each} no"
    remember(secret)
    for each in inner:
        assert covered(f"said {each} no") == "said *** no"
    assert covered("shop, ann, mlflow") == "shop, ann, mlflow"


def test_values_that_are_read_later_are_covered_too() -> None:
    for secret in ("sesame-one", "sesame-two"):
        assert covered(f"a {secret} b") == f"a {secret} b"
        remember(secret)
        assert covered(f"a {secret} b") == "a *** b"


@pytest.mark.parametrize("piece", ["ab12", "//a:", "password", "a=", "p='", " "])
def test_long_texts_are_covered_in_time_that_grows_with_their_length(piece: str) -> None:
    text = piece * (2**20 // len(piece))  # in the square of it, this takes an hour
    assert covered(text) == text


def test_the_log_shows_no_secret_in_messages_and_stacks(known: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(CoveringFormatter("%(message)s"))
    log = logging.Logger("test")
    log.addHandler(handler)
    try:
        raise RuntimeError(f"cannot log in with {known}")
    except RuntimeError:
        log.exception("tried %s", known)
    assert stream.getvalue().count("***") == 2
    assert known not in stream.getvalue()


def test_an_error_that_is_cut_leaves_no_half_of_a_secret(known: str) -> None:
    told = one_line("x" * (LONGEST - 5) + known)
    assert told is not None
    assert told.endswith("x***")


def test_a_fault_of_a_job_shows_no_secret(
    known: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def faulty(*arguments: object) -> None:
        raise RuntimeError(f"the driver said {known}, or http://ann:hunter2@host/")

    monkeypatch.setattr(command, "_scheduled", faulty)
    config = tmp_path / "shop.yaml"
    source = "{format: csv, path: x, event_type: view, columns: {user_id: u, item_id: i, event_time: t}}"
    config.write_text(f"workspace: {tmp_path}/w\nsource: {source}\n")
    assert command.main("clean_events", ["--config", str(config)]) == 1
    ended = capsys.readouterr()
    assert "RuntimeError: the driver said ***, or http://***@host/" in ended.err
    assert known not in ended.err + ended.out
    assert "hunter2" not in ended.err + ended.out


@pytest.mark.parametrize(
    "content",
    [
        'source: {password: "hunter2}\n',
        "a: b\n  password: hunter2: x\n",
        "- hunter2: [\n",
        "hunter2: !!python/x y\n",
    ],
)
def test_a_line_of_a_broken_file_is_not_repeated(
    content: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "shop.yaml").write_text(content)
    assert command.main("clean_events", ["--config", str(tmp_path / "shop.yaml")]) == 2
    ended = capsys.readouterr()
    assert "not valid YAML" in ended.err
    assert "hunter2" not in ended.err + ended.out


@pytest.mark.parametrize("setting", ["source.password: hunter2", "spark.conf.x=[hunter2", "a.b=: hunter2: x"])
def test_a_setting_that_is_refused_is_not_repeated(
    setting: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "shop.yaml").write_text("workspace: x\n")
    assert command.main("clean_events", ["--config", str(tmp_path / "shop.yaml"), "--set", setting]) == 2
    ended = capsys.readouterr()
    assert "hunter2" not in ended.err + ended.out
