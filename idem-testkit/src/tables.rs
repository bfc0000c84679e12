//! What is in a database, to be compared with what is in it later or in another one.

use std::collections::BTreeMap;
use std::ops::Index;

/// The contents of a database's tables, idem's own left out; made by
/// [`LabDatabase::tables`](crate::lab::LabDatabase::tables).
///
/// Two are equal if the same tables have the same columns and the same rows, in whatever order these are stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tables(pub(crate) BTreeMap<String, Table>);

/// The contents of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// The columns' names, in the table's order.
    pub columns: Vec<String>,
    /// The rows, sorted by their text. A value is the text from which the database can make it again, and `None` is
    /// `NULL`.
    ///
    /// On PostgreSQL and MySQL that is the text that the server shows; MySQL's binary values are hexadecimal there, and
    /// its floating-point numbers are shown with all their digits. On SQLite, whose columns have no types, it is a
    /// literal: `5` is a number, and `'5'` is a text.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Tables {
    /// Returns a table, if there is one of this name.
    pub fn get(&self, table: &str) -> Option<&Table> {
        self.0.get(table)
    }

    /// Returns all tables with their names, in the order of these.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Table)> {
        self.0.iter().map(|(name, table)| (name.as_str(), table))
    }

    /// Takes over some columns of a table.
    pub(crate) fn insert_of(&mut self, from: &Tables, name: &str, columns: &[&str]) {
        let Some(table) = from.get(name) else { return };
        let places: Vec<usize> = columns
            .iter()
            .filter_map(|column| table.columns.iter().position(|other| other == column))
            .collect();
        let picked = |row: &Vec<Option<String>>| places.iter().map(|at| row[*at].clone()).collect();
        let names = places.iter().map(|at| table.columns[*at].clone()).collect();
        self.insert(name.to_owned(), names, table.rows.iter().map(picked).collect());
    }

    fn insert(&mut self, name: String, columns: Vec<String>, mut rows: Vec<Vec<Option<String>>>) {
        rows.sort_unstable();
        self.0.insert(name, Table { columns, rows });
    }
}

impl Index<&str> for Tables {
    type Output = Table;

    /// Returns a table.
    ///
    /// # Panics
    ///
    /// There is none of this name.
    fn index(&self, table: &str) -> &Table {
        self.get(table).unwrap_or_else(|| {
            let there: Vec<&str> = self.iter().map(|(name, _)| name).collect();
            panic!("there is no table `{table}` among {} [{}]", there.join(", "), crate::code::Code::NoTable)
        })
    }
}

/// Writes an identifier between quotation marks.
pub(crate) fn quoted(identifier: &str, mark: char) -> String {
    let escaped = identifier.replace(mark, &format!("{mark}{mark}"));
    format!("{mark}{escaped}{mark}")
}

#[cfg(feature = "sqlite")]
pub(crate) mod sqlite {
    use std::fmt::Write as _;

    use sqlx::sqlite::SqliteRow;
    use sqlx::{AssertSqlSafe, Decode, Row as _, Sqlite, SqliteConnection};

    use super::{Tables, quoted};

    pub(crate) async fn read(c: &mut SqliteConnection, leave_out: &str) -> Result<Tables, sqlx::Error> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual') \
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        )
        .fetch_all(&mut *c)
        .await?;
        let mut tables = Tables::default();
        for name in names.into_iter().filter(|name| leave_out.is_empty() || !name.starts_with(leave_out)) {
            // Hidden columns are arguments of a virtual table; generated ones have other numbers.
            let columns: Vec<String> =
                sqlx::query_scalar("SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid")
                    .bind(&name)
                    .fetch_all(&mut *c)
                    .await?;
            let selected: Vec<String> = columns
                .iter()
                .map(|column| quoted(column, '"'))
                .map(|column| format!("typeof({column}), {column}"))
                .collect();
            let select = format!("SELECT {} FROM {}", selected.join(", "), quoted(&name, '"'));
            let rows = sqlx::query(AssertSqlSafe(select)).fetch_all(&mut *c).await?;
            let rows = rows
                .iter()
                .map(|row| (0..columns.len()).map(|column| literal(row, column)).collect())
                .collect::<Result<_, sqlx::Error>>()?;
            tables.insert(name, columns, rows);
        }
        Ok(tables)
    }

    /// Writes a value as a literal of SQL. What `quote()` writes ends at the first NUL of a text.
    fn literal(row: &SqliteRow, column: usize) -> Result<Option<String>, sqlx::Error> {
        let kind: &str = row.try_get(2 * column)?;
        let column = 2 * column + 1;
        Ok(match kind {
            "null" => None,
            "integer" => Some(decode::<i64>(row, column)?.to_string()),
            "real" => Some(format!("{:?}", decode::<f64>(row, column)?)),
            "text" => Some(match String::from_utf8(decode(row, column)?) {
                Ok(text) => quoted(&text, '\''),
                Err(e) => format!("CAST({} AS TEXT)", hexadecimal(e.as_bytes())),
            }),
            _ => Some(hexadecimal(&decode::<Vec<u8>>(row, column)?)),
        })
    }

    /// Decodes without asking what the column was declared to be, which binds no value in it.
    fn decode<'r, T: Decode<'r, Sqlite>>(row: &'r SqliteRow, column: usize) -> Result<T, sqlx::Error> {
        T::decode(row.try_get_raw(column)?).map_err(sqlx::Error::Decode)
    }

    fn hexadecimal(bytes: &[u8]) -> String {
        let mut literal = String::from("X'");
        for byte in bytes {
            write!(literal, "{byte:02X}").expect("a string takes what is written to it");
        }
        literal.push('\'');
        literal
    }

    pub(crate) async fn skip_ids(c: &mut SqliteConnection, by: u32) -> Result<(), sqlx::Error> {
        // SQLite makes the counters with the first table that has one.
        let counters = sqlx::query("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'");
        if counters.fetch_optional(&mut *c).await?.is_none() {
            return Ok(());
        }
        // A table has no counter until its first row. One that only looks as if it had one never reads it.
        sqlx::query(
            "INSERT INTO sqlite_sequence (name, seq) SELECT name, 0 FROM sqlite_schema \
             WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%' \
             AND name NOT IN (SELECT name FROM sqlite_sequence)",
        )
        .execute(&mut *c)
        .await?;
        sqlx::query("UPDATE sqlite_sequence SET seq = seq + ?").bind(by).execute(c).await?;
        Ok(())
    }
}

#[cfg(feature = "postgres")]
pub(crate) mod postgres {
    use sqlx::{AssertSqlSafe, PgConnection};

    use super::{Tables, quoted};

    pub(crate) async fn read(c: &mut PgConnection, leave_out: &str) -> Result<Tables, sqlx::Error> {
        // The rows of a partition are those of its parent, and the rows of a child are not the parent's own.
        let found: Vec<(String, String, bool, Vec<String>)> = sqlx::query_as(
            "SELECT n.nspname::text, c.relname::text, c.relkind = 'p', \
             ARRAY(SELECT a.attname::text FROM pg_attribute a \
                   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
        )
        .fetch_all(&mut *c)
        .await?;
        let mut tables = Tables::default();
        for (schema, name, partitioned, columns) in found {
            if !leave_out.is_empty() && name.starts_with(leave_out) {
                continue;
            }
            // `concat` writes a value as its type does; a cast would take the blanks from the end of `char(n)`. And
            // a row whose fields are all NULL is not NULL, whatever `IS NULL` says of it.
            let values: Vec<String> = columns
                .iter()
                .map(|column| format!("t.{}", quoted(column, '"')))
                .map(|column| format!("CASE num_nulls({column}) WHEN 0 THEN concat({column}) END"))
                .collect();
            let select = format!(
                "SELECT ARRAY[{}]::text[] FROM {}{}.{} AS t",
                values.join(", "),
                if partitioned { "" } else { "ONLY " },
                quoted(&schema, '"'),
                quoted(&name, '"'),
            );
            let rows = sqlx::query_scalar(AssertSqlSafe(select)).fetch_all(&mut *c).await?;
            tables.insert(name, columns, rows);
        }
        Ok(tables)
    }

    pub(crate) async fn skip_ids(c: &mut PgConnection, by: u32) -> Result<(), sqlx::Error> {
        // A sequence that was never asked has no last value; its first is still to come.
        sqlx::query(
            "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, \
                           coalesce(last_value, start_value - increment_by) + increment_by * $1) \
             FROM pg_sequences WHERE schemaname = current_schema() AND $1 > 0",
        )
        .bind(i64::from(by))
        .fetch_all(c)
        .await?;
        Ok(())
    }
}

#[cfg(feature = "mysql")]
pub(crate) mod mysql {
    use std::collections::BTreeMap;

    use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};

    use super::{Tables, quoted};

    pub(crate) async fn read(c: &mut MySqlConnection, leave_out: &str) -> Result<Tables, sqlx::Error> {
        let found: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT CONVERT(table_name USING utf8mb4), CONVERT(column_name USING utf8mb4), \
                    CONVERT(LOWER(data_type) USING utf8mb4) \
             FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name) \
             WHERE table_schema = DATABASE() AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') \
             ORDER BY table_name, ordinal_position",
        )
        .fetch_all(&mut *c)
        .await?;
        let mut columns_of: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for (table, column, data_type) in found {
            if leave_out.is_empty() || !table.starts_with(leave_out) {
                columns_of.entry(table).or_default().push((column, data_type));
            }
        }
        let mut tables = Tables::default();
        for (name, columns) in columns_of {
            let values: Vec<String> =
                columns.iter().map(|(column, data_type)| text_of(&quoted(column, '`'), data_type)).collect();
            let select = format!("SELECT {} FROM {}", values.join(", "), quoted(&name, '`'));
            let rows = sqlx::query(AssertSqlSafe(select)).fetch_all(&mut *c).await?;
            let rows = rows
                .iter()
                .map(|row| (0..columns.len()).map(|column| row.try_get(column)).collect())
                .collect::<Result<_, sqlx::Error>>()?;
            tables.insert(name, columns.into_iter().map(|(column, _)| column).collect(), rows);
        }
        Ok(tables)
    }

    /// Writes the expression of a column's text that loses nothing.
    fn text_of(column: &str, data_type: &str) -> String {
        let value = match data_type {
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "bit" | "vector"
            | "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection" => format!("HEX({column})"),
            // A `float` shows six digits and has nine; as a double it shows all.
            "float" | "double" => format!("{column} + 0e0"),
            _ => column.to_owned(),
        };
        format!("CONVERT({value} USING utf8mb4)")
    }

    pub(crate) async fn skip_ids(c: &mut MySqlConnection, by: u32) -> Result<(), sqlx::Error> {
        // MySQL shows counters of up to a day ago, unless told otherwise; to MariaDB, which does not, the hint is a
        // comment.
        let counters: Vec<(String, u64)> = sqlx::query_as(
            "SELECT /*+ SET_VAR(information_schema_stats_expiry = 0) */ \
             CONVERT(table_name USING utf8mb4), CAST(auto_increment AS UNSIGNED) \
             FROM information_schema.tables WHERE table_schema = DATABASE() AND auto_increment IS NOT NULL",
        )
        .fetch_all(&mut *c)
        .await?;
        for (table, next) in counters {
            let next = next.saturating_add(u64::from(by));
            let alter = format!("ALTER TABLE {} AUTO_INCREMENT = {next}", quoted(&table, '`'));
            sqlx::raw_sql(AssertSqlSafe(alter)).execute(&mut *c).await?;
        }
        Ok(())
    }
}
