//! Throw-away databases come, go, and tell what is in them.
#![cfg(feature = "sqlite")]

use idem_testkit::for_each_database;
use idem_testkit::lab::{Lab, LabDatabase, OptionsOf};
use idem_testkit::tables::Tables;
use sqlx::{ConnectOptions as _, Executor};

async fn execute<D: LabDatabase>(lab: &Lab<D>, sql: &'static str)
where
    for<'c> &'c mut <D as sqlx::Database>::Connection: Executor<'c, Database = D>,
{
    sqlx::raw_sql(sql).execute(&mut lab.connect().await).await.unwrap();
}

async fn tables<D: LabDatabase>(lab: &Lab<D>) -> Tables {
    D::tables(&mut lab.connect().await, "idem_").await.unwrap()
}

fn row(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

#[tokio::test]
async fn labs_do_not_see_each_other() {
    let mut databases = 0;
    for_each_database!(lab: Lab<Db> => {
        let other = Db::lab().await.expect("where there was one database there is another");
        execute(&lab, "CREATE TABLE charges (id INTEGER)").await;
        execute(&other, "CREATE TABLE payments (id INTEGER)").await;
        assert_eq!(tables(&lab).await.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), ["charges"]);
        assert_eq!(tables(&other).await.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), ["payments"]);
        assert_ne!(lab.address(), other.address());
        databases += 1;
    });
    assert!(databases >= 1, "SQLite is always there");
}

#[tokio::test]
async fn the_address_of_a_lab_leads_to_it() {
    for_each_database!(lab: Lab<Db> => {
        execute(&lab, "CREATE TABLE charges (id INTEGER)").await;
        let options: OptionsOf<Db> = lab.address().parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        let found = Db::tables(&mut connection, "").await.unwrap();
        assert!(found.get("charges").is_some(), "{} has {found:?}", lab.address());
    });
}

/// Tells whether a lab that has been dropped is still there.
async fn is_there<D: LabDatabase>(address: &str) -> bool
where
    for<'c> &'c mut <D as sqlx::Database>::Connection: Executor<'c, Database = D>,
{
    let options: OptionsOf<D> = address.parse().unwrap();
    let Ok(mut connection) = options.connect().await else { return false };
    D::tables(&mut connection, "").await.unwrap().get("charges").is_some()
}

#[tokio::test]
async fn a_lab_goes_with_success_and_stays_when_it_is_kept_or_the_test_fails() {
    for_each_database!(lab: Lab<Db> => {
        let address = lab.address();
        execute(&lab, "CREATE TABLE charges (id INTEGER)").await;
        drop(lab);
        // On a private server it goes with the server.
        if !is_private(&address) {
            assert!(!is_there::<Db>(&address).await, "{address} was left behind");

            let kept = Db::lab().await.unwrap();
            execute(&kept, "CREATE TABLE charges (id INTEGER)").await;
            kept.keep();
            let address = kept.address();
            drop(kept);
            assert!(is_there::<Db>(&address).await, "{address} was not kept");
            remove(&address).await;

            let failed = Db::lab().await.unwrap();
            execute(&failed, "CREATE TABLE charges (id INTEGER)").await;
            let address = failed.address();
            let failure = std::thread::spawn(move || {
                let _failed = failed;
                // Not a panic, whose message would look like that of this test.
                std::panic::resume_unwind(Box::new("fails"));
            });
            failure.join().unwrap_err();
            assert!(is_there::<Db>(&address).await, "{address} was not kept");
            remove(&address).await;
        }
    });
}

/// Tells whether a lab is on the server that this process has started.
fn is_private(address: &str) -> bool {
    let variable = match address.split(':').next() {
        Some("sqlite") => return false,
        Some("postgres") => "IDEM_TEST_POSTGRES",
        _ => "IDEM_TEST_MYSQL",
    };
    std::env::var_os(variable).is_none_or(|url| url.is_empty())
}

/// Removes what was kept on purpose.
async fn remove(address: &str) {
    #[cfg(feature = "postgres")]
    if let Some((_, schema)) = address.split_once("search_path%3D") {
        let options: OptionsOf<sqlx::Postgres> = address.parse().unwrap();
        let drop = sqlx::AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"));
        sqlx::raw_sql(drop).execute(&mut options.connect().await.unwrap()).await.unwrap();
        return;
    }
    #[cfg(feature = "mysql")]
    if let Some((_, database)) = address.strip_prefix("mysql://").and_then(|rest| rest.rsplit_once('/')) {
        let options: OptionsOf<sqlx::MySql> = address.parse().unwrap();
        let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE {database}"));
        sqlx::raw_sql(drop).execute(&mut options.connect().await.unwrap()).await.unwrap();
        return;
    }
    if let Some(file) = address.strip_prefix("sqlite://") {
        std::fs::remove_dir_all(std::path::Path::new(file).parent().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn tables_of_a_prefix_are_left_out() {
    for_each_database!(lab: Lab<Db> => {
        execute(&lab, "CREATE TABLE idem_records (id INTEGER); CREATE TABLE idemology (id INTEGER)").await;
        let mut connection = lab.connect().await;
        let names = |tables: Tables| tables.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(Db::tables(&mut connection, "idem_").await.unwrap()), ["idemology"]);
        assert_eq!(names(Db::tables(&mut connection, "").await.unwrap()), ["idem_records", "idemology"]);
    });
}

#[tokio::test]
async fn the_order_of_rows_makes_no_difference_and_a_missing_row_does() {
    for_each_database!(lab: Lab<Db> => {
        execute(&lab, "CREATE TABLE charges (id INTEGER, note VARCHAR(20))").await;
        execute(&lab, "INSERT INTO charges VALUES (1, NULL), (2, ''), (2, '')").await;
        let before = tables(&lab).await;
        assert_eq!(before["charges"].columns, ["id", "note"]);
        assert_eq!(before["charges"].rows.len(), 3);
        assert_eq!(before["charges"].rows[0], [Some(String::from("1")), None]);
        execute(&lab, "DELETE FROM charges; INSERT INTO charges VALUES (2, ''), (1, NULL), (2, '')").await;
        assert_eq!(tables(&lab).await, before);
        execute(&lab, "UPDATE charges SET note = '' WHERE id = 1").await;
        assert_ne!(tables(&lab).await, before, "NULL and an empty text differ");
        execute(&lab, "DELETE FROM charges; INSERT INTO charges VALUES (1, NULL), (2, '')").await;
        assert_ne!(tables(&lab).await, before, "two rows and one differ");
    });
}

#[tokio::test]
async fn names_that_need_quotes_are_read() {
    for_each_database!(lab: Lab<Db> => {
        if lab.address().starts_with("mysql:") {
            execute(&lab, "CREATE TABLE `a``b \"c` (`select` INTEGER, `d e` INTEGER)").await;
            execute(&lab, "INSERT INTO `a``b \"c` VALUES (1, 2)").await;
        } else {
            execute(&lab, "CREATE TABLE \"a`b \"\"c\" (\"select\" INTEGER, \"d e\" INTEGER)").await;
            execute(&lab, "INSERT INTO \"a`b \"\"c\" VALUES (1, 2)").await;
        }
        let tables = tables(&lab).await;
        assert_eq!(tables["a`b \"c"].columns, ["select", "d e"]);
        assert_eq!(tables["a`b \"c"].rows, [row(&["1", "2"])]);
    });
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn sqlite_values_of_every_type_keep_all_they_are() {
    let lab = sqlx::Sqlite::lab().await.unwrap();
    execute(
        &lab,
        "CREATE TABLE kinds (a BOOLEAN, b DATETIME, c, d TEXT, e BLOB, f REAL, g AS (a + 1)); \
         CREATE VIEW seen AS SELECT * FROM kinds; \
         INSERT INTO kinds VALUES (7, 'no date', 5, 'it''s' || char(10) || char(0) || '\u{e9}', x'00FF', 0.1 + 0.2), \
                                  (9, '9', '5', CAST(x'ff41' AS TEXT), 'text', 1e300), \
                                  (9223372036854775807, NULL, 5.0, '', x'', NULL)",
    )
    .await;
    let tables = tables(&lab).await;
    assert_eq!(tables.iter().count(), 1, "a view is no table");
    assert_eq!(tables["kinds"].columns, ["a", "b", "c", "d", "e", "f", "g"]);
    let mut last = row(&["9223372036854775807", "", "5.0", "''", "X''", "", "9.223372036854776e18"]);
    last[1] = None;
    last[5] = None;
    let text = "'it''s\n\0\u{e9}'";
    assert_eq!(
        tables["kinds"].rows,
        [
            row(&["7", "'no date'", "5", text, "X'00FF'", "0.30000000000000004", "8"]),
            row(&["9", "9", "'5'", "CAST(X'FF41' AS TEXT)", "'text'", "1e300", "10"]),
            last,
        ]
    );
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn postgres_values_of_every_type_keep_all_they_are() {
    let Some(lab) = sqlx::Postgres::lab().await else { return };
    execute(
        &lab,
        r#"CREATE TYPE mood AS ENUM ('sad', 'it''s'); CREATE TYPE pair AS (a INT, b TEXT);
           CREATE DOMAIN cents AS BIGINT CHECK (VALUE >= 0);
           CREATE TABLE kinds (a JSON, b JSONB, c BYTEA, d NUMERIC, e TIMESTAMPTZ, f FLOAT4, g FLOAT8, h mood,
                               i TEXT[], j pair, k CHAR(4), l TEXT, m UUID, n cents, o INTERVAL, p INT4RANGE,
                               q INT GENERATED ALWAYS AS (1) STORED, r XML, s INET, gone INT, t BIT(3), u BOOL);
           ALTER TABLE kinds DROP COLUMN gone;
           INSERT INTO kinds VALUES ('{"b":1,  "a":"\u00e9"}', '{"b":1,  "a":null}', '\x00ff', 1.2300, '2024-02-29 12:00:00.123456+02',
               16777217, 0.1::float8 + 0.2::float8, 'it''s', ARRAY['a"b', NULL, E'c\nd', ''], ROW(NULL, NULL), 'x', E'it''s\n"\\',
               'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 5, '1 year 2 days 3.000001 s', '[1,5)', DEFAULT, '<a>b</a>', '::1', B'101', true);
           INSERT INTO kinds (d) VALUES ('NaN');
           CREATE TABLE parts (id INT, note TEXT) PARTITION BY RANGE (id);
           CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10);
           INSERT INTO parts VALUES (3, 'x');
           CREATE TABLE parent (id INT); CREATE TABLE child (more INT) INHERITS (parent);
           INSERT INTO child VALUES (1, 2);
           CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES;
           CREATE VIEW seen AS SELECT * FROM parent; CREATE TEMPORARY TABLE passing (id INT)"#,
    )
    .await;
    let tables = tables(&lab).await;
    assert_eq!(
        tables.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["bare", "child", "kinds", "parent", "parts"]
    );
    assert_eq!(tables["bare"].rows, [row(&[])]);
    assert_eq!(tables["parts"].rows, [row(&["3", "x"])]);
    assert_eq!(tables["parent"].rows, [] as [Vec<_>; 0], "the row is the child's");
    assert_eq!(tables["kinds"].columns.concat(), "abcdefghijklmnopqrstu");
    let full = row(&[
        r#"{"b":1,  "a":"\u00e9"}"#,
        r#"{"a": null, "b": 1}"#,
        r"\x00ff",
        "1.2300",
        "2024-02-29 10:00:00.123456+00",
        "1.6777216e+07",
        "0.30000000000000004",
        "it's",
        "{\"a\\\"b\",NULL,\"c\nd\",\"\"}",
        "(,)",
        "x   ",
        "it's\n\"\\",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "5",
        "1 year 2 days 00:00:03.000001",
        "[1,5)",
        "1",
        "<a>b</a>",
        "::1",
        "101",
        "t",
    ]);
    let mut empty = vec![None; 21];
    empty[3] = Some(String::from("NaN"));
    empty[16] = Some(String::from("1"));
    assert_eq!(tables["kinds"].rows, [empty, full]);
}

#[cfg(feature = "mysql")]
#[tokio::test]
async fn mysql_values_of_every_type_keep_all_they_are() {
    let Some(lab) = sqlx::MySql::lab().await else { return };
    execute(
        &lab,
        r#"CREATE TABLE kinds (a JSON, b BLOB, c VARBINARY(9), d DECIMAL(9, 4), e DATETIME(6), f FLOAT, g DOUBLE,
                               h ENUM('sad', 'it''s'), i SET('x', 'y'), j BIT(3), k TEXT,
                               l VARCHAR(9) CHARACTER SET latin1, m TIME(3), n YEAR, o BIGINT UNSIGNED, p POINT,
                               q INT GENERATED ALWAYS AS (1) STORED, r BINARY(3), s TIMESTAMP(6) NULL, t BOOLEAN);
           CREATE VIEW seen AS SELECT * FROM kinds;
           INSERT INTO kinds VALUES ('{"b":  "é"}', x'00FF', '', 1.23, '2024-02-29 12:00:00.123456', 16777217, 0.1e0 + 0.2e0,
               'it''s', 'x,y', b'101', 'it''s\n"\\ 😀', 'é', '-12:00:00.5', 2024, 18446744073709551615, POINT(1, 2),
               DEFAULT, 'x', '2024-02-29 12:00:00.5', TRUE);
           INSERT INTO kinds (f) VALUES (NULL)"#,
    )
    .await;
    let tables = tables(&lab).await;
    assert_eq!(tables.iter().count(), 1, "a view is no table");
    let mut empty = vec![None; 20];
    empty[16] = Some(String::from("1"));
    let mut rows = tables["kinds"].rows.clone();
    assert_eq!(rows.remove(0), empty);
    // MySQL writes JSON its own way, MariaDB as it came.
    assert_eq!(rows[0][0].take().unwrap().replace(' ', ""), "{\"b\":\"é\"}");
    let values: Vec<&str> = rows[0][1..].iter().map(|value| value.as_deref().unwrap()).collect();
    assert_eq!(
        values,
        [
            "00FF",
            "",
            "1.2300",
            "2024-02-29 12:00:00.123456",
            "16777216",
            "0.30000000000000004",
            "it's",
            "x,y",
            "5",
            "it's\n\"\\ 😀",
            "é",
            "-12:00:00.500",
            "2024",
            "18446744073709551615",
            "000000000101000000000000000000F03F0000000000000040",
            "1",
            "780000",
            "2024-02-29 12:00:00.500000",
            "1",
        ]
    );
}

async fn ids<D: LabDatabase>(lab: &Lab<D>, table: &str) -> Vec<String> {
    let tables = tables(lab).await;
    let mut ids: Vec<i64> =
        tables[table].rows.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect();
    ids.sort_unstable();
    ids.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn ids_go_on_further_along_where_rows_were_and_where_none_were() {
    for_each_database!(lab: Lab<Db> => {
        let address = lab.address();
        let id = match address.split(':').next() {
            Some("sqlite") => "INTEGER PRIMARY KEY AUTOINCREMENT",
            Some("postgres") => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            _ => "BIGINT PRIMARY KEY AUTO_INCREMENT",
        };
        for table in ["used", "fresh"] {
            let create = format!("CREATE TABLE {table} (id {id}, note VARCHAR(9))");
            sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut lab.connect().await).await.unwrap();
        }
        execute(&lab, "INSERT INTO used (note) VALUES ('a'), ('b')").await;
        Db::skip_ids(&mut lab.connect().await, 100).await.unwrap();
        execute(&lab, "INSERT INTO used (note) VALUES ('c'); INSERT INTO fresh (note) VALUES ('a')").await;
        assert_eq!(ids(&lab, "used").await, ["1", "2", "103"], "{address}");
        assert_eq!(ids(&lab, "fresh").await, ["101"], "{address}");
        Db::skip_ids(&mut lab.connect().await, 0).await.unwrap();
        execute(&lab, "INSERT INTO used (note) VALUES ('d')").await;
        assert_eq!(ids(&lab, "used").await, ["1", "2", "103", "104"], "{address}");
    });
}

#[tokio::test]
async fn ids_of_a_database_without_counters_can_be_skipped() {
    for_each_database!(lab: Lab<Db> => {
        execute(&lab, "CREATE TABLE charges (id INTEGER PRIMARY KEY)").await;
        Db::skip_ids(&mut lab.connect().await, 100).await.unwrap();
    });
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn sequences_keep_their_step_and_do_not_pass_their_end() {
    let Some(lab) = sqlx::Postgres::lab().await else { return };
    execute(
        &lab,
        "CREATE SEQUENCE \"down By\" START 100 INCREMENT -3 MAXVALUE 100 MINVALUE -1000; SELECT nextval('\"down By\"'); \
         CREATE TABLE charges (id SMALLSERIAL)",
    )
    .await;
    let mut connection = lab.connect().await;
    sqlx::Postgres::skip_ids(&mut connection, 10).await.unwrap();
    let next: i64 =
        sqlx::query_scalar("SELECT nextval('\"down By\"')").fetch_one(&mut connection).await.unwrap();
    assert_eq!(next, 100 - 3 * 11);
    sqlx::Postgres::skip_ids(&mut connection, 40_000).await.unwrap_err();
}

/// Private servers, in copies of this program that are killed.
#[cfg(all(unix, any(feature = "postgres", feature = "mysql")))]
mod private {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpStream;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// Set in copies of this program, which hold a lab until they are killed; it says on what.
    const HOLD: &str = "IDEM_LAB_HOLD";

    /// In a copy, makes a lab on a private server, says where and waits for the end; otherwise does nothing.
    #[tokio::test]
    async fn a_copy_holds_a_private_server() {
        let Ok(hold) = std::env::var(HOLD) else { return };
        match hold.as_str() {
            #[cfg(feature = "postgres")]
            "postgres" | "postgres,kept" => {
                let Some(lab) = sqlx::Postgres::lab().await else { return println!("\nholds nothing") };
                let folder: String = sqlx::query_scalar("SHOW data_directory")
                    .fetch_one(&mut lab.connect().await)
                    .await
                    .unwrap();
                hold_on(lab, &folder, hold.ends_with("kept"));
            }
            #[cfg(feature = "mysql")]
            "mysql" => {
                let Some(lab) = sqlx::MySql::lab().await else { return println!("\nholds nothing") };
                let folder: String =
                    sqlx::query_scalar("SELECT @@datadir").fetch_one(&mut lab.connect().await).await.unwrap();
                hold_on(lab, &folder, false);
            }
            _ => println!("\nholds nothing"),
        }
    }

    fn hold_on<D: sqlx::Database>(lab: Lab<D>, folder: &str, keep: bool) {
        if keep {
            lab.keep();
        }
        let address = lab.address();
        drop(lab);
        println!("\nholds {address} {folder}");
        let _ = std::io::stdin().read_line(&mut String::new());
    }

    /// A copy of this program that has a private server.
    struct Copy {
        child: Child,
        /// Where its server listens.
        server: (String, u16),
        /// The folder that should go with it.
        folder: PathBuf,
    }

    impl Copy {
        /// Starts a copy; `None` if the server is not installed.
        fn start(hold: &str) -> Option<Copy> {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "private::a_copy_holds_a_private_server", "--nocapture"])
                .env(HOLD, hold)
                .env_remove("IDEM_TEST_POSTGRES")
                .env_remove("IDEM_TEST_MYSQL")
                .env_remove("IDEM_REQUIRE")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let said = lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("holds "));
            let said = said.expect("the copy says what it holds");
            if said == "holds nothing" {
                child.wait().unwrap();
                return None;
            }
            let words: Vec<&str> = said.split(' ').collect();
            let host = words[1].split('@').nth(1).unwrap().split('/').next().unwrap();
            let (host, port) = host.split_once(':').unwrap();
            let folder = Path::new(words[2]).parent().unwrap().to_owned();
            Some(Copy { child, server: (host.to_owned(), port.parse().unwrap()), folder })
        }

        fn answers(&self) -> bool {
            TcpStream::connect((&*self.server.0, self.server.1)).is_ok()
        }

        /// Kills the copy, which can do nothing about it, and waits for the end of the server.
        fn kill(&mut self, mut gone: impl FnMut(&Self) -> bool) {
            assert!(self.answers() && self.folder.is_dir(), "the server is there to begin with");
            self.child.kill().unwrap();
            self.child.wait().unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while !gone(self) {
                assert!(Instant::now() < deadline, "the server in {} stayed", self.folder.display());
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    #[test]
    fn a_private_server_and_its_data_go_when_its_process_is_killed() {
        for server in ["postgres", "mysql"] {
            let Some(mut copy) = Copy::start(server) else { continue };
            copy.kill(|copy| !copy.answers() && !copy.folder.exists());
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn the_data_of_a_kept_lab_stay_when_its_server_goes() {
        let Some(mut copy) = Copy::start("postgres,kept") else { return };
        // What the server has locked it gives back last.
        copy.kill(|copy| !copy.answers() && !copy.folder.join("data/postmaster.pid").exists());
        assert!(copy.folder.join("data/PG_VERSION").exists());
        // A process of the server that ends last may still put something into it.
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(error) = std::fs::remove_dir_all(&copy.folder) {
            assert!(Instant::now() < until, "{error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
