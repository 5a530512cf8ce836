"""What reaches Spark from the configuration is allow-listed, before Spark starts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from recsys_spark.config import Config
from recsys_spark.config.online import Online
from recsys_spark.config.sections import Spark, Tables, Tracking
from recsys_spark.config.sources import Demographics, Source
from recsys_spark.config.streaming import Stream

COLUMNS = {"user_id": "user", "item_id": "item", "event_time": "at"}
JDBC = {"format": "jdbc", "path": "shop.sales"}
URL = "jdbc:postgresql://db:5432/shop"
KAFKA = {"kafka.bootstrap.servers": "h:1", "subscribe": "t"}


def source(**changes: Any) -> Source:
    return Source(**{"format": "csv", "path": "a.csv", "columns": COLUMNS, "event_type": "purchase", **changes})


def database(path: str = "shop.sales", url: str = URL, **options: str) -> Source:
    return source(format="jdbc", path=path, options={"url": url, **options})


@pytest.mark.parametrize(
    "path",
    ["landing/*.csv", "../landing/*.csv", "/data/{a,b}/day=[0-9]*.csv", "s3a://shop/events", "hdfs:///events", 
     "C:/a.csv", "abfss://raw@account.dfs.core.windows.net/x", "file:///data/a.csv", "a b.csv",
     "hdfs://namenode:8020/landing/user@corp/*.parquet", "hdfs://one:8020,two:8020/user@corp/*.parquet"],
)  # fmt: skip
def test_paths_of_files_and_stores_are_taken(path: str) -> None:
    assert source(path=path).paths == (path,)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("http://169.254.169.254/latest/meta-data", "http: is no file system or store"),
        ("https://example.org/a.csv", "https: is no file system or store"),
        ("jar:file:/a.jar!/x", "jar: is no file system or store"),
        ("s3a://AKIA:secret@bucket/x", "holds a password"),
        ("s3a://AKIA:sec/ret@bucket/x", "holds a password"),
        ("hdfs://ann:12345@namenode:8020/x", "holds a password"),
        ("landing/../../etc/passwd", r"\.\. after a folder"),
        ("landing/%2e%2e/%2e%2e/etc/passwd", r"\.\. after a folder"),
        ("a\x00b.csv", "a character that no path has"),
        ("", "is empty"),
    ],
)
def test_other_paths_are_refused(path: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as told:
        source(path=path)
    assert "secret" not in str([detail["msg"] for detail in told.value.errors()])


@pytest.mark.parametrize(
    "path", ["../etc/passwd", "shop/../../etc/passwd", "/etc/passwd", "shop", "os;x/a.csv", "shop/.", "shop//a.csv"]
)
def test_a_packages_file_is_within_the_package(path: str) -> None:
    with pytest.raises(ValidationError, match="no file of a package"):
        source(format="package", path=path)


@pytest.mark.parametrize("name", ["sales", "shop.sales", "cat.shop.sales", 'shop."Order Lines"', "`my-db`.`sales`"])
def test_names_of_tables_are_taken(name: str) -> None:
    assert database(name).paths == (name,)
    assert source(format="table", path=name).paths == (name,)


@pytest.mark.parametrize(
    "name",
    ["(SELECT * FROM users) t", "sales; DROP TABLE users", "sales -- x", "sales WHERE 1=1", "parquet.`/etc/x`",
     "a.b.c.d.e", "sales t", "`a`b`", "../sales", ""],
)  # fmt: skip
def test_a_table_is_a_name_and_no_query(name: str) -> None:
    with pytest.raises(ValidationError, match="no table's name"):
        database(name)
    with pytest.raises(ValidationError, match="no table's name"):
        source(format="table", path=name)


def test_a_table_of_a_file_format_is_not_read_as_files() -> None:
    with pytest.raises(ValidationError, match="would be read as files"):
        source(format="table", path="parquet.sales")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("jdbc:h2:mem:x;INIT=RUNSCRIPT FROM 'http://host/x.sql'", "INIT"),
        (
            "jdbc:postgresql://h/d?socketFactory=org.x.ClassPathXmlApplicationContext&socketFactoryArg=http://h/x",
            "socketF",
        ),
        ("jdbc:postgresql://h/d?%73ocketFactory=x", "socketFactory"),
        ("jdbc:mysql://h/d?autoDeserialize=true&queryInterceptors=x", "autoDeserialize"),
        ("jdbc:mysql://h/d?a=b&allowLoadLocalInfile=true", "allowLoadLocalInfile"),
        ("jdbc:postgresql://h/d?loggerLevel=DEBUG&loggerFile=/etc/cron.d/x", "loggerFile"),
    ],
)
def test_a_database_address_that_runs_code_is_refused(url: str, name: str) -> None:
    with pytest.raises(ValidationError, match=f"sets {name}.*may run code"):
        database(url=url)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sessionInitStatement": "DROP TABLE x"}, "sessionInitStatement may not be set"),
        ({"prepareQuery": "WITH x AS (SELECT 1)"}, "prepareQuery may not be set"),
        ({"partitionColumn": "id) OR (1=1", "lowerBound": "1"}, "partitionColumn .* is not what it may be"),
        ({"lowerBound": "1; DROP TABLE x"}, "lowerBound .* is not what it may be"),
        ({"driver": "x; y"}, "driver .* is not what it may be"),
        ({"sslmode": "require", "sslpassword": "x"}, "would be a secret"),
        ({"user": "shop", "applicationName": "a;password=x"}, "holds a password"),
    ],
)
def test_options_of_a_database_are_listed(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        database(**options)


def test_what_a_database_needs_is_among_them() -> None:
    parts = {"partitionColumn": "id", "lowerBound": "2024-01-01 00:00:00", "upperBound": "60", "numPartitions": "3"}
    assert database(driver="org.postgresql.Driver", fetchsize="7", sslmode="require", user="shop", **parts)


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("csv", {"fs.s3a.endpoint": "http://host"}),
        ("json", {"path": "/etc"}),
        ("parquet", {"spark.sql.x": "y"}),
        ("table", {"url": "x"}),
        ("package", {"dbtable": "x"}),
    ],
)
def test_options_of_readers_are_listed(format_: str, options: dict[str, str]) -> None:
    path = "shop/a.parquet" if format_ == "package" else "sales"
    with pytest.raises(ValidationError, match="may not be set; those that may are"):
        source(format=format_, path=path, options=options)


@pytest.mark.parametrize(
    "options",
    [{"sasl.jaas.config": "x"}, {"kafka.interceptor.classes": "x"}, {"kafka.sasl.login.callback.handler.class": "x"},
     {"kafka.sasl.client.callback.handler.class": "org.x.IAMClientCallbackHandler"},
     {"kafka.ssl.engine.factory.class": "x"}, {"kafka.security.providers": "x"}, {"path": "/etc"}],
)  # fmt: skip
def test_kafkas_client_loads_no_class_by_name(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"may not be set|would be a secret|may be, written in options, one of"):
        Stream(format="kafka", options={**KAFKA, **options})
    if "sasl.jaas.config" not in options:
        with pytest.raises(ValidationError, match=r"may not be set|may be, written in options"):
            Stream(format="kafka", options=KAFKA, options_env=dict.fromkeys(options, "SOME_NAME"))
    assert Stream(format="kafka", options={**KAFKA, "kafka.security.protocol": "SASL_SSL", "startingOffsets": "latest"})


@pytest.mark.parametrize(
    ("way", "handler"),
    [
        ("client", "software.amazon.msk.auth.iam.IAMClientCallbackHandler"),
        ("login", "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler"),
        ("login", "org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler"),
    ],
)
def test_kafkas_client_loads_the_known_classes_by_which_it_logs_in(way: str, handler: str) -> None:
    options = {f"kafka.sasl.{way}.callback.handler.class": handler}
    assert Stream(format="kafka", options={**KAFKA, **options}).options[f"kafka.sasl.{way}.callback.handler.class"]
    with pytest.raises(ValidationError, match="may be, written in options, one of"):
        Stream(format="kafka", options=KAFKA, options_env=dict.fromkeys(options, "HANDLER"))


def test_kafkas_client_gets_its_tokens_over_tls() -> None:
    name = "kafka.sasl.oauthbearer.token.endpoint.url"
    assert Stream(format="kafka", options={**KAFKA, name: "https://login.example.org/token"})
    assert Stream(format="kafka", options=KAFKA, options_env={name: "TOKEN_ADDRESS"})
    for address in ("file:///etc/passwd", "http://169.254.169.254/latest"):
        with pytest.raises(ValidationError, match="must begin with https://"):
            Stream(format="kafka", options={**KAFKA, name: address})


@pytest.mark.parametrize("name", ["hunter2", "a b", "", "Kafka"])
def test_a_value_where_the_name_of_a_variable_belongs_is_not_repeated(name: str) -> None:
    for make in (
        lambda: database(**{}).model_validate({**database().model_dump(), "password_env": name}),
        lambda: Online(store="redis://h:1/0", password_env=name),
        lambda: Spark(conf_env={"spark.x": name}),
        lambda: Tracking(uri_env=name),
    ):
        with pytest.raises(ValidationError) as told:
            make()
        assert "name of an environment variable in capitals" in told.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    "conf",
    [
        {"spark.hadoop.fs.s3a.secret.key": "x"},
        {"spark.hadoop.fs.azure.account.key.shop.blob.core.windows.net": "x"},
        {"spark.ssl.keyPassword": "x"},
        {"spark.driver.extraJavaOptions": "-Djavax.net.ssl.trustStorePassword=x"},
        {"spark.hadoop.javax.jdo.option.ConnectionURL": "jdbc:mysql://u:x@h/d"},
    ],
)
def test_secrets_among_the_settings_of_spark_are_refused(conf: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"name that in spark\.conf_env"):
        Spark(conf=conf)


def test_settings_that_sound_like_secrets_are_taken() -> None:
    conf = {
        "spark.hadoop.fs.s3a.aws.credentials.provider": "org.apache.hadoop.fs.s3a.auth.IAMInstanceCredentialsProvider",
        "spark.security.credentials.hive.enabled": "false",
        "spark.kubernetes.driver.secrets.shop": "/etc/secrets",
        "spark.kerberos.keytab": "/etc/shop.keytab",
    }
    assert Spark(conf=conf).conf == conf


def test_a_setting_of_spark_is_one() -> None:
    for name in ("--jars", "spark.x=y --conf spark.z", "java.home"):
        with pytest.raises(ValidationError, match="no setting of Spark"):
            Spark(conf={name: "x"})


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://ann:hunter2@mlflow:5000", "holds a password"),
        ("postgresql://ann:hunter2@db/mlflow", "holds a password"),
        ("https://mlflow/?token=hunter2", "holds a password"),
        ("file:///mlruns", "no address that MLflow keeps runs at"),
        ("s3://bucket", "no address that MLflow keeps runs at"),
    ],
)
def test_an_address_of_mlflow_holds_no_password(uri: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as told:
        Tracking(uri=uri)
    assert "hunter2" not in str([detail["msg"] for detail in told.value.errors()])


def test_an_address_of_mlflow_is_given_once() -> None:
    with pytest.raises(ValidationError, match="give uri or uri_env"):
        Tracking(uri="http://h", uri_env="MLFLOW_URI")
    assert Tracking(uri="postgresql://db/mlflow").uri == "postgresql://db/mlflow"


@pytest.mark.parametrize("database", ["shop;drop", "a.b", "`x`", "1a", ""])
def test_a_metastore_database_is_an_identifier(database: str) -> None:
    with pytest.raises(ValidationError, match="plain database name"):
        Tables(catalog=database)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workspace": "s3a://bucket/x"}, "must be a local or mounted folder"),
        ({"workspace": "/srv/shop/../../etc"}, r"\.\. after a folder"),
        ({"training": {"cache_dir": "http://x"}}, "must be a local or mounted folder"),
        ({"features": {"tokenizer": "hf://org/model"}}, "must be a local or mounted folder"),
        ({"online": {"store": "sqlite:////srv/shop/../../etc/x.db"}}, r"\.\. after a folder"),
        ({"rules": {"blocked_items_file": "https://x/y"}}, "must be a local or mounted folder"),
        ({"tracking": {"experiment": "a\nb"}}, "must be one line"),
    ],
)
def test_folders_and_files_of_this_host_are_local(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate({"source": source().model_dump(), **changes})


def test_names_of_columns_hold_nothing_that_no_column_has() -> None:
    with pytest.raises(ValidationError, match="no column's name"):
        source(columns={**COLUMNS, "price": "a\nb"})
    with pytest.raises(ValidationError, match="must begin with a letter"):
        Demographics(format="csv", path="a.csv", columns={"user_id": "u", "age`; x": "age"})
    assert Demographics(format="csv", path="a.csv", columns={"user_id": "u", "age group": "Alter (Jahre), `grob`"})


def test_an_error_does_not_repeat_what_was_given() -> None:
    with pytest.raises(ValidationError) as told:
        Tracking.model_validate({"uri": "http://ann:hunter2@mlflow", "passphrase": "hunter2"})
    assert "hunter2" not in str(told.value)
