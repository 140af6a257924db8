from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.errors import ConfigurationError
from hermes_agent.toolbox import Database

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"


def _made(file: Path, script: str) -> Path:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(script)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return _made(
        tmp_path / "a b?#%&'.db",
        """
        CREATE TABLE people (name TEXT, age INTEGER, photo BLOB);
        INSERT INTO people VALUES ('Ann', 31, x'89504e47'), ('Bob', NULL, NULL), ('Zoë', 44.5, zeroblob(20));
        CREATE VIEW elders AS SELECT name, printf('%.1f', age) AS age FROM people WHERE age > 40;
        CREATE INDEX by_name ON people (name);
        """,
    )


@pytest.fixture
def database(file: Path) -> Database:
    return Database(file)


def test_rows_come_as_json_lines(database: Database) -> None:
    assert database.query("SELECT * FROM people") == (
        '["name", "age", "photo"]\n'
        '["Ann", 31, "[blob of 4 bytes, 89504e47]"]\n'
        '["Bob", null, null]\n'
        '["Zoë", 44.5, "[blob of 20 bytes, 00000000000000000000000000000000...]"]'
    )
    assert database.query("SELECT name FROM people WHERE age > 99") == '["name"]\n[no rows]'
    assert database.query("select * from elders;") == '["name", "age"]\n["Zoë", "44.5"]'
    assert database.query("SELECT 1 AS a, 2 AS a, 9e999 AS big") == '["a", "a", "big"]\n[1, 2, "inf"]'
    assert database.query("VALUES (1)") == '["column1"]\n[1]'
    assert database.query("PRAGMA table_info(people)").count("\n") == 3
    assert database.query("SELECT name FROM pragma_table_info('people')").endswith('["photo"]')
    assert database.query("EXPLAIN QUERY PLAN SELECT * FROM people").endswith('"SCAN people"]')


def test_the_schema(database: Database, file: Path, tmp_path: Path) -> None:
    assert database.schema().startswith("CREATE TABLE people (name TEXT, age INTEGER, photo BLOB);\nCREATE VIEW elders")
    assert Database(file, max_chars=70).schema().endswith("[cut: there is more; ask sqlite_master for the rest]")
    (tmp_path / "empty.db").touch()
    assert Database(tmp_path / "empty.db").schema() == "the database has no tables"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO people VALUES ('Eve', 1, NULL)",
        "REPLACE INTO people VALUES ('Eve', 1, NULL)",
        "UPDATE people SET age = 1",
        "UPDATE people SET age = 1 RETURNING name",
        "DELETE FROM people",
        "WITH x AS (SELECT 1) DELETE FROM people",
        "EXPLAIN DELETE FROM people",
        "DROP TABLE people",
        "ALTER TABLE people ADD COLUMN x",
        "CREATE TABLE more (x)",
        "CREATE TEMP TABLE more (x)",
        "CREATE INDEX i ON people (name)",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "CREATE TEMP TRIGGER t AFTER INSERT ON people BEGIN SELECT 1; END",
        "ATTACH ':memory:' AS other",
        "/* hello */ ATTACH DATABASE '{other}' AS other",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO '{other}'",
        "PRAGMA writable_schema = ON",
        "PRAGMA query_only = OFF",
        "PRAGMA main.journal_mode = DELETE",
        "PRAGMA temp_store_directory = '/'",
        "PRAGMA integrity_check",
        "BEGIN",
        "BEGIN EXCLUSIVE",
        "COMMIT",
        "SAVEPOINT s",
        "ANALYZE",
        "REINDEX",
        "SELECT load_extension('evil')",
        "SELECT fts3_tokenizer('simple', x'00')",
    ],
)
def test_whatever_is_more_than_reading_is_refused(database: Database, file: Path, tmp_path: Path, sql: str) -> None:
    before = file.read_bytes()
    with pytest.raises(PermissionError, match="is refused"):
        database.query(sql.replace("{other}", str(tmp_path / "other.db")))
    assert file.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("", "asks nothing"),
        ("-- nothing", "asks nothing"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT 1; DROP TABLE people", "one statement"),
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM nobody", "no such table: nobody; schema shows what there is"),
        ("SELECT height FROM people", "no such column: height; schema shows what there is"),
        ("SELECT ?", "binding"),
        ("SELECT 1\0", "null character"),
        ("SELECT '\ud800'", "is not text"),
        ("UPDATE sqlite_master SET sql = 'x'", "may not be modified"),
        ("SELECT " + "1," * 6000 + "1", "10000 is the most"),
        ("SELECT " + "(" * 500 + "1" + ")" * 500, "failed"),
        ("SELECT 1" + " + 1" * 500, "depth"),
        ("SELECT 1" + " UNION ALL SELECT 1" * 60, "compound"),
    ],
)
def test_what_is_no_question(database: Database, sql: str, says: str) -> None:
    with pytest.raises(ValueError, match=".") as caught:  # noqa: RUF043 - what it says is checked below
        database.query(sql)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        f"{ENDLESS} SELECT count(*) FROM c",
        f"{ENDLESS} SELECT x FROM c WHERE x < 0",
        f"{ENDLESS} SELECT x FROM c ORDER BY x % 7",
        f"{ENDLESS} SELECT sum(length(printf('%900d', x))) FROM c",
        f"{ENDLESS} SELECT count(*) FROM c WHERE instr(hex(zeroblob(90000)) || x, 'needle')",
        "SELECT count(*) FROM " + ", ".join(f"people p{number}" for number in range(30)),
    ],
)
def test_endless_questions_are_stopped(file: Path, sql: str) -> None:
    with pytest.raises(TimeoutError, match=r"stopped after 0\.1 seconds"):
        Database(file, seconds=0.1).query(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT zeroblob(1000000000)",
        "SELECT randomblob(1000000000)",
        "SELECT hex(zeroblob(150000))",
        "SELECT printf('%.*c', 2000000000, 'x')",
        "SELECT format('%.*c', 2000000000, 'x')",
        "SELECT printf('%1000000000d', 1)",
        "SELECT printf('%.' || '999999999' || 'f', 1.5)",
        "SELECT replace(hex(zeroblob(90000)), '0', '00000000')",
        "SELECT instr(hex(zeroblob(90000)), hex(zeroblob(80000)) || '1')",
        "SELECT trim(hex(zeroblob(90000)), hex(zeroblob(8000)))",
        f"{ENDLESS} SELECT group_concat(hex(randomblob(1000))) FROM (SELECT x FROM c LIMIT 100000)",
        "SELECT 'a' LIKE hex(zeroblob(5000))",
        "SELECT 'a' GLOB hex(zeroblob(5000))",
    ],
)
def test_memory_and_time_bombs_fail_at_once(database: Database, sql: str) -> None:
    begin = time.process_time()
    with pytest.raises((ValueError, PermissionError)):
        database.query(sql)
    assert time.process_time() - begin < 5


def test_patterns_that_backtrack_cost_little(database: Database) -> None:
    begin = time.process_time()
    for operator, mark in (("LIKE", "%"), ("GLOB", "*")):
        pattern = f"{mark}a" * 90 + "b"
        assert database.query(f"SELECT replace(hex(zeroblob(90000)), '0', 'a') {operator} '{pattern}'").endswith("[0]")
    assert time.process_time() - begin < 2


def test_measured_functions_answer_as_the_built_in_ones(database: Database) -> None:
    asked = (
        "instr('abcb', 'b'), instr(x'0102', x'02'), instr(NULL, 'a'), instr(123, 2), replace('aXa', 'X', 'é'), "
        "trim('xxaxx', 'x'), ltrim('xxaxx', 'x'), rtrim('xxaxx', 'x'), trim('  a '), trim(x'4142', 'A'), "
        "printf('%05.1f|%s|%,d|%%', 3.14159, 'x', 1234567), printf('%x', 255), printf(NULL), printf('a')"
    )
    with closing(sqlite3.connect(":memory:")) as plain:
        expected = [
            value.decode() if isinstance(value, bytes) else value
            for value in plain.execute(f"SELECT {asked}").fetchone()
        ]
    assert json.loads(database.query(f"SELECT {asked}").split("\n")[1]) == expected


def test_long_answers_are_cut_and_say_so(file: Path) -> None:
    numbers = f"{ENDLESS} SELECT x FROM c"
    assert Database(file).query(numbers, limit=2) == (
        '["x"]\n[1]\n[2]\n[cut: only the first 2 rows are shown; narrow the query, or use LIMIT and OFFSET]'
    )
    assert Database(file, max_rows=3).query(numbers, limit=1000).count("\n") == 4
    assert "[cut: only 5 rows fit" in Database(file, max_chars=25).query(numbers)
    assert Database(file, max_cell_chars=3).query("SELECT 'abcdef'").endswith('["abc[cut: 6 characters]"]')
    with pytest.raises(ValueError, match="limit=0"):
        Database(file).query("SELECT 1", limit=0)


def test_full_text_and_json_tables_can_be_read(tmp_path: Path) -> None:
    made = _made(tmp_path / "f.db", "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('hello world');")
    assert Database(made).query("SELECT * FROM f WHERE f MATCH 'hello'").endswith('["hello world"]')
    assert Database(made).query("SELECT value FROM json_each('[1, 2]')").endswith("[1]\n[2]")
    with pytest.raises(PermissionError, match="INSERT"):
        Database(made).query("INSERT INTO f (f) VALUES ('rebuild')")


def test_text_that_is_no_utf8_and_values_too_large(tmp_path: Path) -> None:
    made = _made(
        tmp_path / "f.db",
        "CREATE TABLE t (x); INSERT INTO t VALUES (CAST(x'61ff' AS TEXT)); CREATE TABLE big (x);"
        "INSERT INTO big VALUES (zeroblob(1000000))",
    )
    assert Database(made).query("SELECT x FROM t").endswith('["a\N{REPLACEMENT CHARACTER}"]')
    assert Database(made).query("SELECT length(x) FROM big").endswith("[1000000]")
    with pytest.raises(ValueError, match="more than 200000 bytes"):
        Database(made).query("SELECT x FROM big")
    assert "blob of 1000000 bytes" in Database(made, max_value_bytes=2_000_000).query("SELECT x FROM big")


def test_a_database_in_wal_mode(tmp_path: Path) -> None:
    made = tmp_path / "wal.db"
    with closing(sqlite3.connect(made)) as writer:
        writer.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1);")
        database = Database(made)
        assert database.query("SELECT x FROM t").endswith("[1]")
        writer.execute("INSERT INTO t VALUES (2)")
        writer.commit()
        assert database.query("SELECT x FROM t").endswith("[1]\n[2]")
        with pytest.raises(PermissionError):
            database.query("DELETE FROM t")
    assert database.query("SELECT count(*) FROM t").endswith("[2]")


def test_a_closed_wal_database_in_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _made(tmp_path / "wal.db", "PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (7);")
    connect = sqlite3.connect

    def as_in_such_a_folder(
        address: str, *, uri: bool = False, isolation_level: None, **_: float
    ) -> sqlite3.Connection:
        # What SQLite answers there; not done with chmod, since root, who runs some test machines, may write anywhere.
        if address.endswith("?mode=ro"):
            raise sqlite3.OperationalError("attempt to write a readonly database")
        return connect(address, uri=uri, isolation_level=isolation_level)

    monkeypatch.setattr(sqlite3, "connect", as_in_such_a_folder)
    assert Database(made).query("SELECT x FROM t").endswith("[7]")
    (tmp_path / "wal.db-wal").write_bytes(b"a log that may hold newer rows")
    with pytest.raises(ValueError, match="cannot open the database"):
        Database(made).query("SELECT x FROM t")


def test_files_that_are_no_database(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database at all, only text" * 100)
    with pytest.raises(ValueError, match="file is not a database"):
        Database(tmp_path / "text.db").query("SELECT * FROM sqlite_master")
    for path in (tmp_path / "nope.db", tmp_path):
        with pytest.raises(ConfigurationError, match="there is no such file"):
            Database(path)
    gone = tmp_path / "gone.db"
    gone.touch()
    database = Database(gone)
    gone.unlink()
    with pytest.raises(ValueError, match="cannot open the database"):
        database.query("SELECT 1")
    assert not gone.exists()
    with pytest.raises(ConfigurationError, match=r"Database\(seconds=0\) allows nothing"):
        Database(tmp_path / "text.db", seconds=0)


_WORDS = [
    "SELECT", "INSERT INTO", "UPDATE", "SET x = 2", "DELETE", "FROM", "t", "WITH x AS (", ")", "VALUES", "(2)", "x",
    "main.", "ATTACH ':memory:'", "PRAGMA", "writable_schema", "VACUUM", "BEGIN", "DROP TABLE", "EXPLAIN", "REPLACE",
    "REINDEX", "sqlite_master", ";", ",", "*", "1", "=", "(",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    sql=st.lists(
        st.sampled_from(_WORDS),
        max_size=12,
    ).map(" ".join)
)
def test_no_statement_changes_the_file(sql: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed_sql"
    made = folder / "t.db"
    if not made.exists():
        folder.mkdir()
        _made(made, "CREATE TABLE t (x); INSERT INTO t VALUES (1);")
    before = made.read_bytes()
    with suppress(OSError, ValueError):  # refused, which is as good as read
        Database(made).query(sql)
    assert made.read_bytes() == before
    assert [each.name for each in folder.iterdir()] == ["t.db"]
